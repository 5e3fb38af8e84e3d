"""Selected rows as a training set in a trainer's own format, with its configuration and proof of what is trained."""

from tokensieve.exports.files import DATA, Format
from tokensieve.exports.run import TRAINERS, ExportSettings, TrainedTokens, Weights, export, exported
from tokensieve.exports.trainer_format import trainer_row, weights_T

__all__ = [
    "DATA",
    "TRAINERS",
    "ExportSettings",
    "Format",
    "TrainedTokens",
    "Weights",
    "export",
    "exported",
    "trainer_row",
    "weights_T",
]
