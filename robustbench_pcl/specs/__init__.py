"""What to do, as data: recipes, attacks, cells. Nothing here imports torch."""
