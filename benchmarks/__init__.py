"""Speed, as ratios in one interleaved run."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # as pclbench does, before torch is imported
