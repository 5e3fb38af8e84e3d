"""Look at training data before training: a profile of what the loss will see, an audit of a loss mask."""

from tokensieve.inspection.results import Inspection, MaskAudit
from tokensieve.inspection.run import inspect_data

__all__ = ["Inspection", "MaskAudit", "inspect_data"]
