"""Certified robustness: bounds on a network's logits, sound in floating point."""
