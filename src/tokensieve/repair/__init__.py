"""Repair after training, without training: trade target score against drift by choosing among candidates."""

from tokensieve.repair.candidates import interpolate
from tokensieve.repair.run import Candidate, Repair, choose, repair_model

__all__ = ["Candidate", "Repair", "choose", "interpolate", "repair_model"]
