"""The curves of a training, and what is decided by them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_train.network._keras import keras
from fer_train.run.metrics import selection_score
from fer_train.run.recipes import Recipe

History = list[dict[str, float]]
"""One row of scores for each epoch."""


class PredictionBuffer(keras.metrics.Metric):  # type: ignore[misc]
    """Keeps the probabilities of an epoch, from which its curves are computed once.

    Metrics that are updated in each step cost more than the step of a small model.
    """

    def __init__(self, rows: int, classes: int) -> None:
        """Make room for at most so many rows."""
        super().__init__(name="predictions")
        self.rows = self.add_variable((rows, classes), "zeros", dtype="float32")
        self.count = self.add_variable((), "zeros", dtype="int32")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Append a batch's probabilities (N, classes)."""
        count = keras.ops.shape(y_pred)[0]
        places = self.count + keras.ops.arange(count, dtype="int32")
        answers = keras.ops.cast(y_pred, "float32")
        self.rows.assign(keras.ops.scatter_update(self.rows, places[:, None], answers))
        self.count.assign(self.count + count)

    def reset_state(self) -> None:
        """Begin at the first row."""
        self.count.assign(0)

    def result(self) -> Any:
        """Return how many rows there are."""
        return keras.ops.cast(self.count, "float32")

    def take(self) -> NDArray[np.float32]:
        """Return the rows: float32 (N, classes), in the order in which they came."""
        count = int(keras.ops.convert_to_numpy(self.count))
        return np.asarray(keras.ops.convert_to_numpy(self.rows)[:count], np.float32)


def stops_early(history: History, recipe: Recipe) -> bool:
    """Tell whether the validation loss has not fallen for as long as a recipe waits."""
    to_the_end = recipe.schedule == "cosine" and recipe.keep == "last"
    if to_the_end or not recipe.patience or not history:
        return False
    losses = [row["val_loss"] for row in history]
    return len(losses) - 1 - int(np.argmin(losses)) >= recipe.patience


def best_epoch(history: History) -> int:
    """Return the epoch, from 1, of the highest score by `selection_score`; the later of equals."""
    scores = np.nan_to_num([row[selection_score(row)] for row in history], nan=-np.inf)
    return len(scores) - int(np.argmax(scores[::-1]))


def plateau_rate(
    history: History,
    rate: float,
    *,
    patience: int = 20,
    factor: float = 0.5,
    lowest: float = 1e-10,
    min_delta: float = 1e-4,
) -> float:
    """Return the next epoch's learning rate as Keras's ReduceLROnPlateau on val_loss sets it."""
    best, waited = float("inf"), 0
    for row in history:
        if row["val_loss"] < best - min_delta:
            best, waited = row["val_loss"], 0
            continue
        waited += 1
        if waited >= patience:
            rate, waited = max(rate * factor, lowest), 0
    return rate


def curve_scores(one_hot: NDArray[np.float32], answers: NDArray[np.float32]) -> dict[str, float]:
    """Return the scores of the curves, by Keras's metrics.

    Args:
        one_hot: float32 (N, K) labels.
        answers: float32 (N, K) probabilities.

    Returns:
        ``accuracy`` (top-1), ``binary_accuracy``, ``precision``, ``recall`` and ``f1`` of the N x K
        yes-or-no labels at 0.5, and their ``auc``.
    """
    scores = {}
    for metric in (
        keras.metrics.CategoricalAccuracy("accuracy"),
        keras.metrics.BinaryAccuracy("binary_accuracy"),
        keras.metrics.Precision(name="precision"),
        keras.metrics.Recall(name="recall"),
        keras.metrics.AUC(name="auc"),
    ):
        metric.update_state(one_hot, answers)
        scores[metric.name] = float(metric.result())
    precision, recall = scores["precision"], scores["recall"]
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return scores | {"f1": f1}
