"""Labels and probabilities that are right more often than not."""

import numpy as np
from numpy.typing import NDArray


def drawn_predictions() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return (400,) labels of seven classes, and float32 (400, 7), whose rows sum to 1."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 7, 400)
    odds = np.exp(rng.normal(size=(400, 7)) + 2.5 * np.eye(7)[labels])
    return labels, (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
