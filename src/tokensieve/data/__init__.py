"""Data in: formats, chat templates, folders of a stage with their manifest, digests."""
