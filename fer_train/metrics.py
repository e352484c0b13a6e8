"""Labels and probabilities -> scores; pure functions under the field's standard names."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float32]


def binary_accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """Return the share of the N x K one-hot labels on the right side of 0.5: the thesis's figure.

    Predicting nothing at all scores (K - 1) / K, which is 85.71 % of seven.
    """
    one_hot = np.eye(probabilities.shape[1], dtype=bool)[labels]
    return float(np.mean((probabilities > 0.5) == one_hot))


def expected_calibration_error(
    labels: Labels, probabilities: Probabilities, bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy over equal bins of confidence.

    Source: Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[which == b].mean() - right[which == b].mean()) * np.mean(which == b)
        for b in np.unique(which)
    ]
    return float(sum(gaps))


def classification_metrics(labels: Labels, probabilities: Probabilities) -> dict[str, Any]:
    """Compute every score of one set of predictions.

    Args:
        labels: (N,) int64 true classes.
        probabilities: (N, K) float32, rows sum to 1.

    Returns:
        Plain numbers and nested lists, ready for JSON.

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
