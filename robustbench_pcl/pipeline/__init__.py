"""From what is asked for to tasks, their order, and where they run."""
