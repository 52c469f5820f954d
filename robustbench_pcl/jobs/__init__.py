"""From cells to the jobs still missing, and their execution."""
