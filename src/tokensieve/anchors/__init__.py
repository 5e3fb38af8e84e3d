"""Anchors: rows on which a model in training is held to its base, chosen where a short pilot drifts most."""

from tokensieve.anchors.choose import Choice, choose
from tokensieve.anchors.make import make_anchors, train_pilot

__all__ = ["Choice", "choose", "make_anchors", "train_pilot"]
