"""From a model to adversarial sets, accuracies and embeddings."""
