"""The scores of a fold on each of its test sets by itself, and on those images without copies.

FER-2013 has two test sets, PublicTest and PrivateTest, and papers print either, or both as one, as
the folder ``test`` of its well-known archive has them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_train.data.load import USAGES, Dataset
from fer_train.run.folder import RunFold
from fer_train.run.metrics import classification_metrics
from fer_train.run.votes import agreement, counted

WHOLE = "all test images"
STEERED = "PublicTest, which steered training"

USAGE_SCORES = ("images", "accuracy", "balanced_accuracy", "binary_accuracy", "f1_macro")


def usage_scores(
    fold: RunFold,
    dataset: Dataset,
    probabilities: NDArray[np.float32],
    steering: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """Score a fold on each of its test sets.

    Args:
        fold: The fold.
        dataset: All images of its run.
        probabilities: (n, K) predictions for the fold's test images.
        steering: (m, K) predictions for its inner images, where these are PublicTest; else None.

    Returns:
        ``tests``, by the name of each set: `USAGE_SCORES`, ``copies`` (images of which there is
        a copy outside of the test set) and ``without_copies`` (the scores of all others; left out
        where none or all are copies). Nothing where there is one test set without copies.
    """
    split = fold.split
    usage = dataset.usage[split.test]
    alone = len(fold.run.folds) == 1
    own = [name for name in USAGES[1:] if alone and (usage == name).any()]
    if not own and not split.copies.size:
        return {}
    copied = np.isin(split.test, split.copies)
    sets = {name: usage == name for name in own}
    if len(own) != 1:
        sets[WHOLE] = np.ones(len(usage), np.bool_)
    found = {
        name: _scores(fold, dataset, split.test[chosen], probabilities[chosen], copied[chosen])
        for name, chosen in sets.items()
    }
    if steering is not None:
        none = np.zeros(split.inner.size, np.bool_)
        found = {STEERED: _scores(fold, dataset, split.inner, steering, none)} | found
    return {"tests": found}


def _scores(
    fold: RunFold,
    dataset: Dataset,
    images: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    copied: NDArray[np.bool_],
) -> dict[str, Any]:
    def score(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        every: Mapping[str, Any] = classification_metrics(
            dataset.labels[images[chosen]], probabilities[chosen]
        )
        kept = {name: every[name] for name in USAGE_SCORES}
        labels = fold.run.protocol.labels
        votes = None if dataset.votes is None else dataset.votes[images[chosen]]
        if votes is not None and counted(votes, labels).any():
            kept["agreement"] = agreement(votes, labels, probabilities[chosen].argmax(axis=1))
        return kept

    found = score(np.ones(len(images), np.bool_)) | {"copies": int(copied.sum())}
    if copied.any() and not copied.all():
        found["without_copies"] = score(~copied)
    return found
