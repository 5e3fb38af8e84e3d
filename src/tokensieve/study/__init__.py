"""A study: arms x targets x seeds in one stack with one setting, every stage cached by what it is made of."""

from tokensieve.study.recipes import read_recipe, recipe_names
from tokensieve.study.runner import StudyRun, prepare, run

__all__ = ["StudyRun", "prepare", "read_recipe", "recipe_names", "run"]
