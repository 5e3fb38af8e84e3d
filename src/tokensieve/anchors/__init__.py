"""Anchors: rows on which a model in training is held to its base, chosen where a short pilot drifts most."""

from tokensieve.anchors.make import PHASES, AnchorWatcher, Phase, make_anchors, train_pilot
from tokensieve.training.anchor_choice import Choice, choose

__all__ = ["PHASES", "AnchorWatcher", "Choice", "Phase", "choose", "make_anchors", "train_pilot"]
