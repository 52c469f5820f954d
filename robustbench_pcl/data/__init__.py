"""Images: which data sets there are, where they are found, and how they reach the model."""
