"""How far the scores of a model would move with other images: bootstrap intervals.

A resample draws as many images as there are, with replacement; where images belong to groups, such
as the pictures of one person, whole groups are drawn. It is told by how often each image is in it,
so that a thousand resamples of a data set take seconds. Source: Efron & Tibshirani, *An
Introduction to the Bootstrap*, 1993, chapter 13 (percentile intervals).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_train.data.votes import Votes
from fer_train.run.metrics import CALIBRATION_BINS, Labels, Probabilities
from fer_train.run.votes import counted, majorities, vote_shares

RESAMPLES = 1000
LEVEL = 0.95

Weights = NDArray[np.float64]
ScoreFn = Callable[[Weights], dict[str, float]]
"""How often each image counts, (N,), to the scores of all."""


class Interval(NamedTuple):
    """Where a score lies in all but the lowest and highest 2.5 % of the resamples."""

    low: float
    high: float


def bootstrap_intervals(
    scores: ScoreFn,
    images: int,
    groups: NDArray[Any] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the 95 % interval of each score.

    Args:
        scores: From `weighted_scores`.
        images: Number of images, N.
        groups: (N,) what each image belongs to; None where each stands for itself.
        resamples: Number of draws.
        seed: Of the draws.

    Returns:
        An interval for each score; nothing where there are fewer than two groups.
    """
    codes = np.arange(images) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(codes.max(initial=-1)) + 1
    if count < 2:
        return {}
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(resamples):
        times = np.bincount(rng.integers(count, size=count), minlength=count)
        for name, value in scores(times[codes].astype(np.float64)).items():
            drawn.setdefault(name, []).append(value)
    edges = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    return {
        name: Interval(*np.nanpercentile(values, edges).tolist())
        for name, values in drawn.items()
        # What a resample has no image for is not a number.
        if not np.isnan(values).all()
    }


def weighted_scores(labels: Labels, probabilities: Probabilities) -> ScoreFn:
    """Return a function of the images' weights to the scores of `classification_metrics`.

    Args:
        labels: (N,) int64 true classes.
        probabilities: (N, K) float32.

    Returns:
        The function; of its scores those with an entry a class are left out.
    """
    count = probabilities.shape[1]
    numbers = np.arange(len(labels))
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = (predicted == labels).astype(np.float64)
    cells = labels * count + predicted
    losses = -np.log(np.maximum(probabilities[numbers, labels].astype(np.float64), 1e-7))
    sure = probabilities > 0.5
    hits, claims = sure[numbers, labels].astype(np.float64), sure.sum(axis=1)
    right_cells = (sure == np.eye(count, dtype=bool)[labels]).mean(axis=1)
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = confidence - right
    areas = [_weighted_auc(labels == label, probabilities[:, label]) for label in range(count)]

    def scores(weights: Weights) -> dict[str, float]:
        total = weights.sum()
        confusion = np.bincount(cells, weights, minlength=count * count).reshape(count, count)
        support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        found = np.diag(confusion).astype(np.float64)
        recall, precision = _ratio(found, support), _ratio(found, predicted)
        f1 = _ratio(2 * found, support + predicted)
        present = support > 0
        result = {
            "accuracy": float(weights @ right / total),
            "binary_accuracy": float(weights @ right_cells / total),
            "balanced_accuracy": float(recall[present].mean()),
            "log_loss": float(weights @ losses / total),
            "auc_macro": _mean([area(weights) for area in areas]),
            "expected_calibration_error": float(
                np.abs(np.bincount(bins, weights * gaps)).sum() / total
            ),
        }
        for average, shares in (
            ("macro", present / present.sum()),
            ("weighted", support / support.sum()),
        ):
            result |= {
                f"precision_{average}": float(precision @ shares),
                f"recall_{average}": float(recall @ shares),
                f"f1_{average}": float(f1 @ shares),
            }
        hit, claimed = float(weights @ hits), float(weights @ claims)
        return result | {
            "precision_at_half": hit / claimed if claimed else 0.0,
            "recall_at_half": hit / total,
            "f1_at_half": 2 * hit / (claimed + total),
        }

    return scores


def weighted_vote_scores(
    votes: Votes, labels: Sequence[str], probabilities: Probabilities
) -> ScoreFn:
    """Return a function of the images' weights to the scores of `fer_train.run.votes.vote_metrics`.

    Args:
        votes: (N, 10).
        labels: The K emotions.
        probabilities: (N, K) float32.
    """
    # Only what a model is measured by; what people agree on among themselves is no score of it.
    chosen, clear = counted(votes, labels), majorities(votes, labels)
    shares, predicted = vote_shares(votes, labels), probabilities.argmax(axis=1)
    agrees = np.where(chosen, shares[np.arange(len(shares)), predicted], 0)
    logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-7))
    losses = np.where(chosen, -(shares * logs).sum(axis=1), 0)
    known = clear >= 0
    classes = np.where(known, clear, 0)

    def scores(weights: Weights) -> dict[str, float]:
        own, support = weights @ chosen, np.bincount(classes, weights * known, len(labels))
        found = np.bincount(classes, weights * (known & (predicted == clear)), len(labels))
        present = support > 0
        return {
            "agreement": float(weights @ agrees / own) if own else np.nan,
            "vote_log_loss": float(weights @ losses / own) if own else np.nan,
            "clear_accuracy": float(found.sum() / support.sum()) if present.any() else np.nan,
            "clear_balanced_accuracy": _mean((found[present] / support[present]).tolist()),
        }

    return scores


def _weighted_auc(positive: NDArray[np.bool_], values: Probabilities) -> Callable[[Weights], float]:
    """Return a function of weights to the area under the ROC curve; equal values count by half."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    is_positive = positive[order]

    def area(weights: Weights) -> float:
        ordered = weights[order]
        above = np.add.reduceat(ordered * is_positive, starts)
        below = np.add.reduceat(ordered * ~is_positive, starts)
        pairs = above.sum() * below.sum()
        return float(above @ (np.cumsum(below) - below / 2) / pairs) if pairs else float("nan")

    return area


def _ratio(part: Weights, whole: Weights) -> Weights:
    return np.asarray(part / np.where(whole > 0, whole, 1))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
