"""The curves of a training, and what is decided by them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_train.data.load import Dataset
from fer_train.run.metrics import selection_score
from fer_train.run.recipes import Recipe
from fer_train.run.votes import agreement, counted

History = list[dict[str, float]]
"""One row of scores for each epoch."""


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


def cosine_rates(recipe: Recipe, steps: int, epochs: int, epoch: int) -> NDArray[np.float32]:
    """Return the learning rate of each step of an epoch, float32 (steps,).

    It rises linearly to the recipe's and falls to 0 by a half cosine. Source: Loshchilov & Hutter,
    *SGDR: Stochastic Gradient Descent with Warm Restarts*, 2017.

    Args:
        recipe: Settings.
        steps: Steps of an epoch.
        epochs: Epochs of this stage of training.
        epoch: Of these, from 0.
    """
    total = steps * epochs
    warmup = min(int(recipe.warmup_epochs * steps), total // 2)
    step = np.arange(epoch * steps, (epoch + 1) * steps, dtype=np.float64)
    done = np.minimum((step - warmup) / max(total - warmup, 1), 1)
    factor = np.where(step < warmup, step / max(warmup, 1), (1 + np.cos(np.pi * done)) / 2)
    return np.asarray(recipe.learning_rate * factor, np.float32)


def epoch_rates(recipe: Recipe, history: History, steps: int) -> NDArray[np.float32]:
    """Return the learning rate of each step of the epoch that follows, float32 (steps,)."""
    epoch, frozen = len(history), recipe.frozen_epochs
    if recipe.schedule == "plateau":
        return np.full(steps, plateau_rate(history, recipe.learning_rate), np.float32)
    first, end = (0, frozen) if epoch < frozen else (frozen, recipe.epochs)
    return cosine_rates(recipe, steps, end - first, epoch - first)


_THRESHOLDS = np.concatenate([[-1.0], np.arange(1, 199) / 199, [2.0]]).astype(np.float32)


def curve_scores(
    one_hot: NDArray[np.float32], predictions: NDArray[np.float32]
) -> dict[str, float]:
    """Return the scores of the curves, as Keras's metrics of these names compute them.

    In NumPy, since Keras compiles its own anew for each number of images.

    Args:
        one_hot: float32 (N, K) labels.
        predictions: float32 (N, K) probabilities.

    Returns:
        ``accuracy`` (top-1), ``binary_accuracy``, ``precision``, ``recall`` and ``f1`` of the N x K
        yes-or-no labels at 0.5, and their ``auc``, by 200 thresholds.
    """
    true, said = one_hot > 0.5, predictions > 0.5
    hits = int(np.count_nonzero(true & said))
    precision = hits / max(int(np.count_nonzero(said)), 1)
    recall = hits / max(int(np.count_nonzero(true)), 1)
    found, false = (
        1 - np.searchsorted(np.sort(part), _THRESHOLDS, side="right") / max(part.size, 1)
        for part in (predictions[true], predictions[~true])
    )
    return {
        "accuracy": float(np.mean(one_hot.argmax(axis=1) == predictions.argmax(axis=1))),
        "binary_accuracy": float(np.mean(true == said)),
        "precision": precision,
        "recall": recall,
        "auc": float(np.sum((false[:-1] - false[1:]) * (found[:-1] + found[1:]) / 2)),
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
    }


def dataset_scores(
    dataset: Dataset, numbers: NDArray[Any], outputs: NDArray[np.float32]
) -> dict[str, float]:
    """Score outputs for images of a data set: `curve_scores`, and agreement where it has votes.

    Args:
        dataset: Its labels are the outputs' columns.
        numbers: (n,) of the images.
        outputs: float32 (n or more, K); the first n count.
    """
    labels, outputs = dataset.label_names, outputs[: numbers.size]
    one_hot = np.eye(len(labels), dtype=np.float32)
    scores = curve_scores(one_hot[dataset.labels[numbers]], outputs)
    votes = None if dataset.votes is None else dataset.votes[numbers]
    if votes is not None and counted(votes, labels).any():
        scores["agreement"] = agreement(votes, labels, outputs.argmax(axis=1))
    return scores
