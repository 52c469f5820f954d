"""The only code that reads or writes artefacts. Nothing here imports torch."""
