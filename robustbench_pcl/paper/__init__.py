"""The published tables as data, and the cells they ask for. Nothing here imports torch."""
