"""How a model is run when it is attacked: prepared once, in full batches, with honest verdicts."""
