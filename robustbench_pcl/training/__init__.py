"""From a recipe to the weights of a model."""
