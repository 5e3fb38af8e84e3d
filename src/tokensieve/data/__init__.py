"""Data in, data out: formats, chat templates, stage folders, the score store, exports."""
