"""Make whole corrupted and perturbed sets as files, and pictures of them."""

from common_corruptions.generate.whole_sets import (
    RECIPES_VERSION,
    generate_corruptions,
    generate_perturbations,
    recipe_version,
)

__all__ = ["RECIPES_VERSION", "generate_corruptions", "generate_perturbations", "recipe_version"]
