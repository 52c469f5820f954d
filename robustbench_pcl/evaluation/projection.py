"""t-SNE, the same points for the same features."""

from __future__ import annotations

import numpy as np

from robustbench_pcl.errors import UserError
from robustbench_pcl.store.embeddings import Array

DIMENSIONS = 50
"""Left by the principal component analysis before t-SNE (van der Maaten and Hinton 2008)."""
PERPLEXITY = 30.0
"""Of 600 images or more; of fewer a twentieth of them, so that a class is more than its centre."""
FEWEST = 5


def tsne(features: Array, seed: int) -> Array:
    """Points float32 (N, 2) in which near features stay near.

    Args:
        features: (N, D), in any unit; equal features give equal points.
        seed: of the few choices that are left with a start from the principal components.

    Raises:
        UserError: there are too few images.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count, width = features.shape
    if count < FEWEST:
        raise UserError(
            f"t-SNE needs at least {FEWEST} images, and there are {count}.",
            "Ask for more with --images.",
        )
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    spread = centred.std()
    if spread == 0:
        return np.zeros((count, 2), np.float32)
    reduced = PCA(min(DIMENSIONS, count, width), svd_solver="full").fit_transform(centred / spread)
    perplexity = min(PERPLEXITY, max(count / 20, 1.0))
    points = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(reduced)
    return np.asarray(points, dtype=np.float32)
