"""Choose policy, anchors and learning rate for a model and its data by short runs."""

from tokensieve.calibration.halving import Candidate, Trial
from tokensieve.calibration.run import Calibration, calibrate

__all__ = ["Calibration", "Candidate", "Trial", "calibrate"]
