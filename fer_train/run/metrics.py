"""Labels and probabilities -> scores, and scores -> statistics; pure functions.

Every score goes by the field's standard name. ``accuracy`` is top-1; the figure that the thesis
prints as accuracy is ``binary_accuracy``.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]

CALIBRATION_BINS = 15
CURVE_POINTS = 150


def selection_score(columns: Collection[str]) -> str:
    """Return the column of curves by which epochs and folds are chosen.

    It is measured on the images that steer training: agreement with their raters, where there are
    votes, else top-1.
    """
    return "val_agreement" if "val_agreement" in columns else "val_accuracy"


def binary_accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """Return the share of the N x K one-hot labels on the right side of 0.5: the thesis's figure.

    Predicting nothing at all scores (K - 1) / K, which is 85.71 % of seven.
    """
    one_hot = np.eye(probabilities.shape[1], dtype=bool)[labels]
    return float(np.mean((probabilities > 0.5) == one_hot))


def binary_accuracy_from(recall: float, precision: float, classes: int = 7) -> float:
    """Return the binary accuracy that a recall and a precision at 0.5 imply.

    Of an image's K labels, 1 - r on average are misses, and for r hits there are r (1 - p) / p
    false alarms; all other labels are right. So what a source prints as accuracy can be told apart
    from top-1 by its own recall and precision.

    Args:
        recall: r, the share of the images whose own class got more than 0.5.
        precision: p, the share of the predictions above 0.5 that are right; above 0.
        classes: K.
    """
    return 1 - ((1 - recall) + recall * (1 - precision) / precision) / classes


class CalibrationBin(NamedTuple):
    """The images whose confidence lies in one bin: mean confidence, accuracy, share of all."""

    confidence: float
    accuracy: float
    share: float


def calibration(
    labels: Labels, probabilities: Probabilities, bins: int = CALIBRATION_BINS
) -> list[CalibrationBin]:
    """Compare confidence and accuracy over equal bins of confidence; empty bins are left out.

    Source: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        CalibrationBin(
            float(confidence[which == b].mean()),
            float(right[which == b].mean()),
            float(np.mean(which == b)),
        )
        for b in np.unique(which)
    ]


def expected_calibration_error(
    labels: Labels, probabilities: Probabilities, bins: int = CALIBRATION_BINS
) -> float:
    """Return the mean gap between confidence and accuracy over the bins of `calibration`."""
    return sum(
        bin.share * abs(bin.confidence - bin.accuracy)
        for bin in calibration(labels, probabilities, bins)
    )


def classification_metrics(labels: Labels, probabilities: Probabilities) -> dict[str, Any]:
    """Compute every score of one set of predictions.

    Averages over classes are over those that have images.

    Args:
        labels: (N,) int64 true classes.
        probabilities: (N, K) float32, rows sum to 1.

    Returns:
        Plain numbers and nested lists, ready for JSON. ``precision``, ``recall``, ``f1``,
        ``support`` have one entry a class; ``confusion`` counts images by true class (row) and
        prediction (column). What ends in ``_at_half`` counts one only above 0.5, as the thesis
        does.

    Raises:
        ValueError: The shapes do not fit together or there is no image.
    """
    if labels.ndim != 1 or probabilities.ndim != 2 or len(labels) != len(probabilities):
        raise ValueError(
            f"Expected (N,) labels and (N, K) probabilities, received {labels.shape} "
            f"and {probabilities.shape}"
        )
    if not len(labels):
        raise ValueError("Expected at least one image, received none")
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0
    )
    present = support > 0
    scores: dict[str, Any] = {
        "images": len(labels),
        "accuracy": float(np.mean(predicted == labels)),
        "binary_accuracy": binary_accuracy(labels, probabilities),
        "balanced_accuracy": float(recall[present].mean()),
        "log_loss": float(-np.log(np.maximum(_of(probabilities, labels), 1e-7)).mean()),
        "auc_macro": _auc(labels, probabilities),
        "expected_calibration_error": expected_calibration_error(labels, probabilities),
    }
    for average in ("macro", "weighted"):
        weights = present / present.sum() if average == "macro" else support / support.sum()
        scores |= {
            f"precision_{average}": float(precision @ weights),
            f"recall_{average}": float(recall @ weights),
            f"f1_{average}": float(f1 @ weights),
        }
    scores |= _thresholded(labels, probabilities)
    scores |= {
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "support": support.tolist(),
        "confusion": sk.confusion_matrix(labels, predicted, labels=classes).tolist(),
    }
    return scores


class ClassCurve(NamedTuple):
    """A curve of one class against the rest: x and y (n,), and the area below it."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    area: float


def roc_curves(labels: Labels, probabilities: Probabilities) -> list[ClassCurve | None]:
    """Return true over false positive rate for each class; None where all or none are of it."""
    return _class_curves(labels, probabilities, _roc)


def precision_recall_curves(
    labels: Labels, probabilities: Probabilities
) -> list[ClassCurve | None]:
    """Return precision over recall for each class, and average precision; None as `roc_curves`."""
    return _class_curves(labels, probabilities, _precision_recall)


def _class_curves(
    labels: Labels,
    probabilities: Probabilities,
    curve: Callable[[NDArray[np.bool_], NDArray[np.float32]], ClassCurve],
) -> list[ClassCurve | None]:
    found: list[ClassCurve | None] = []
    for label in range(probabilities.shape[1]):
        own = labels == label
        both = own.any() and not own.all()
        found.append(_thin(curve(own, probabilities[:, label])) if both else None)
    return found


def _roc(own: NDArray[np.bool_], values: NDArray[np.float32]) -> ClassCurve:
    x, y, _ = sk.roc_curve(own, values)
    return ClassCurve(x, y, float(sk.auc(x, y)))


def _precision_recall(own: NDArray[np.bool_], values: NDArray[np.float32]) -> ClassCurve:
    precision, recall, _ = sk.precision_recall_curve(own, values)
    return ClassCurve(recall, precision, float(sk.average_precision_score(own, values)))


def _thin(curve: ClassCurve) -> ClassCurve:
    """Keep so many points of a curve that a page can show; they are spread along its x."""
    if curve.x.size <= CURVE_POINTS:
        return curve
    order = np.argsort(curve.x, kind="stable")
    wanted = np.linspace(0, 1, CURVE_POINTS)
    kept = np.unique(np.r_[0, np.searchsorted(curve.x[order], wanted), order.size - 1])
    kept = order[np.minimum(kept, order.size - 1)]
    return ClassCurve(curve.x[kept], curve.y[kept], curve.area)


def normalise_confusion(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide each row of a (K, K) confusion matrix by its sum; rows without images stay 0."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(counts / np.maximum(totals, 1), np.float64)


class Spread(NamedTuple):
    """Mean and sample standard deviation (ddof 1) over folds; ``sd`` is None for one fold."""

    mean: float
    sd: float | None


def spread(values: Sequence[float]) -> Spread:
    """Return the mean and the sample standard deviation (ddof 1) of one value a fold."""
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if values[1:] else None)


@dataclass(frozen=True)
class PairedTest:
    """Two models evaluated on the same folds.

    Attributes:
        folds: Number of folds both were evaluated on.
        difference: Mean of first less second.
        t: The test's statistic, with ``folds - 1`` degrees of freedom.
        p: Two-sided probability of a difference at least as large by chance alone.
    """

    folds: int
    difference: float
    t: float
    p: float


def paired_test(
    first: Sequence[float], second: Sequence[float], test_share: float
) -> PairedTest | None:
    """Test whether two models differ by more than chance, over the folds that both have.

    This is the corrected resampled t-test. The folds' training sets overlap, so that their scores
    vary less than those of independent trainings would, and the plain paired t-test finds
    differences where there are none; the correction adds the ratio of test to training images to
    1 / k. Source: C. Nadeau and Y. Bengio, *Inference for the Generalization Error*, Machine
    Learning 52 (2003).

    Args:
        first: One score a fold.
        second: The other model's score on the same folds.
        test_share: Test images divided by training images.

    Returns:
        The test, or None where fewer than two folds leave nothing to test.

    Raises:
        ValueError: The numbers of scores differ.
    """
    if len(first) != len(second):
        raise ValueError(f"Expected as many scores of both, received {len(first)}, {len(second)}")
    count = len(first)
    if count < 2:
        return None
    differences = np.subtract(first, second)
    if not differences.any():
        return PairedTest(count, 0.0, 0.0, 1.0)
    mean = float(differences.mean())
    scale = np.sqrt((1 / count + test_share) * differences.var(ddof=1))
    with np.errstate(divide="ignore"):  # the same difference in every fold
        t = float(np.divide(mean, scale))
    return PairedTest(count, mean, t, float(2 * stats.t.sf(abs(t), count - 1)))


class McNemarTest(NamedTuple):
    """Two models evaluated on the same images.

    Attributes:
        first_only: Images that only the first is right about.
        second_only: Images that only the second is right about.
        p: Two-sided probability of counts at least as unequal by chance alone.
    """

    first_only: int
    second_only: int
    p: float


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemarTest:
    """Test whether two trained models are right about equally many images of one test set.

    Only images that one of them alone is right about tell; each is as likely either's where the
    models are equally good, so that the exact test is binomial. Source: Q. McNemar, *Note on the
    sampling error of the difference between correlated proportions*, Psychometrika 12 (1947).

    Args:
        first: (N,) whether the first is right about each image.
        second: (N,) whether the second is.
    """
    first_only, second_only = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    told = first_only + second_only
    p = float(stats.binomtest(first_only, told).pvalue) if told else 1.0
    return McNemarTest(first_only, second_only, p)


class SeedSpread(NamedTuple):
    """How a score varies with the seed and with the fold; None where there is but one.

    Attributes:
        mean: Over all.
        folds: Standard deviation of the folds, each the mean over its seeds.
        seeds: Standard deviation of the seeds within a fold, pooled over the folds.
        runs: Standard deviation of the seeds' means over all folds.
    """

    mean: float
    folds: float | None
    seeds: float | None
    runs: float | None


def seed_spread(values: NDArray[np.float64]) -> SeedSpread:
    """Tell the spread of seeds from that of folds: sample standard deviations (ddof 1).

    Args:
        values: (seeds, folds) of one score.
    """
    seeds, folds = values.shape
    return SeedSpread(
        float(values.mean()),
        float(values.mean(axis=0).std(ddof=1)) if folds > 1 else None,
        float(np.sqrt(values.var(axis=0, ddof=1).mean())) if seeds > 1 else None,
        float(values.mean(axis=1).std(ddof=1)) if seeds > 1 else None,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for having made several tests (Holm's step-down method, 1979)."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _of(probabilities: Probabilities, labels: Labels) -> NDArray[np.float64]:
    return probabilities[np.arange(len(labels)), labels].astype(np.float64)


def _auc(labels: Labels, probabilities: Probabilities) -> float:
    """Average the one-against-rest areas under the ROC curve of the classes that are present."""
    areas = [
        sk.roc_auc_score(labels == label, probabilities[:, label])
        for label in np.unique(labels)
        if np.any(labels != label)
    ]
    return float(np.mean(areas)) if areas else float("nan")


def _thresholded(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Count a class as predicted above 0.5, over all N x K labels: the thesis's recall and F1."""
    sure = probabilities > 0.5
    hits = int(np.sum(sure[np.arange(len(labels)), labels]))
    precision = hits / int(sure.sum()) if sure.any() else 0.0
    recall = hits / len(labels)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"precision_at_half": precision, "recall_at_half": recall, "f1_at_half": f1}
