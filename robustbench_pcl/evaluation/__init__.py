"""From checkpoints to adversarial sets, from those to measurements."""
