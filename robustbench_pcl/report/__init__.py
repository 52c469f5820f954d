"""Tables, figures and the page, from stored evidence. Nothing here imports torch."""
