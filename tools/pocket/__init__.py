"""Programs that make pocket, the embedded model: its problems (``problems.py``) and its weights (``pretrain.py``)."""
