"""Whether a robust accuracy holds, and if not, why."""
