"""Seeded generator of pocket's problems and pretraining dialogues."""
