"""Evidence that travels: bundles of what a number rests on, and recomputing what can be."""
