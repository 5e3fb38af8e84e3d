"""Repair after training, without training: trade target score against drift by choosing among candidates."""

from tokensieve.repair.run import Candidate, Repair, choose, repair_model

__all__ = ["Candidate", "Repair", "choose", "repair_model"]
