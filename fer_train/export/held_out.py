"""How an exported file does on images that it has not been trained on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from fer_edge.contract import EMOTIONS, Description
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.preprocess import prepare
from fer_train.data.pixels import as_frames
from fer_train.data.votes import Votes
from fer_train.export.convert import SCORES
from fer_train.run.metrics import classification_metrics
from fer_train.run.votes import VOTE_SCORES, agreement, counted, vote_metrics, vote_shares

_KEPT_SCORES = (*SCORES, "recall", "precision", "support", "confusion")
_BATCH = 256

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class HeldOut:
    """Images that a file is evaluated on; it was not trained on them.

    Attributes:
        name: What they are, such as ``PublicTest``.
        images: uint8 (N, S, S) grey or (N, S, S, 3) RGB.
        labels: int64 (N,), indices into the model's labels.
        emotions: What the labels mean, by their usual names.
        votes: (N, 10) what people saw in them, see `fer_train.data.votes`, or None.
    """

    name: str
    images: Images
    labels: NDArray[np.int64]
    emotions: Sequence[str] = EMOTIONS
    votes: Votes | None = None

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.images)

    def accuracy(self, probabilities: NDArray[np.float32]) -> float:
        """Return the top-1 of (N, K) predictions on the labels."""
        return float(np.mean(probabilities.argmax(axis=1) == self.labels))

    def agreement(self, probabilities: NDArray[np.float32]) -> float | None:
        """Return the agreement of (N, K) predictions with raters; None where votes are too few."""
        if self.votes is None or not counted(self.votes, self.emotions).any():
            return None
        return agreement(self.votes, self.emotions, probabilities.argmax(axis=1))

    def score(self, probabilities: NDArray[np.float32]) -> tuple[str, float]:
        """Return the name and the value of the one score by which two files are compared.

        It is the agreement with raters where votes are known, else top-1.
        """
        agreed = self.agreement(probabilities)
        if agreed is None:
            return "top-1", self.accuracy(probabilities)
        return VOTE_SCORES["agreement"].title, agreed

    def lost(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> tuple[float, float]:
        """Return what predictions lose of `score` against others, and half its 95 % interval.

        Both are of the same images, so that only those count on which they differ. Where none do,
        the half is 3 / n: with less, none of n images need differ (the rule of three).

        Args:
            before: (N, K) predictions to compare with.
            after: (N, K) predictions that may be worse.
        """
        differences = self._each(before) - self._each(after)
        count = len(differences)
        spread = 1.96 * float(differences.std()) / math.sqrt(count)
        return float(differences.mean()), spread or 3 / count

    def _each(self, probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the score of each image that counts."""
        predicted = probabilities.argmax(axis=1)
        if self.votes is None or self.agreement(probabilities) is None:
            return np.asarray(predicted == self.labels, np.float64)
        shares = vote_shares(self.votes, self.emotions)[np.arange(len(predicted)), predicted]
        return np.asarray(shares[counted(self.votes, self.emotions)], np.float64)

    def scores(self, probabilities: NDArray[np.float32]) -> dict[str, Any]:
        """Return all scores of (N, K) predictions that the facts of a file keep."""
        found = classification_metrics(self.labels, probabilities)
        kept = {key: found[key] for key in _KEPT_SCORES}
        if self.votes is not None:
            kept |= vote_metrics(self.votes, self.emotions, probabilities)
        return kept


def open_file(path: Path, **description: Unpack[Description]) -> Classifier:
    """Open an ONNX file as evaluation does: on the processor, each image a face.

    Its predictions are as they are: no prior is taken out.
    """
    return Classifier(path, provider="cpu", detector="none", prior=0, **description)


def predict_images(model: Classifier, images: Images) -> NDArray[np.float32]:
    """Return the probabilities of images as of a `Dataset`: float32 (N, K)."""
    rows = [
        model.probabilities(batch_of(model, images[start : start + _BATCH]))
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(rows)


def batch_of(model: Classifier, images: Images) -> NDArray[np.float32]:
    """Turn images as of a `Dataset`, N from 1, into what a model is fed with."""
    return np.concatenate([prepare(image, [None], model.spec) for image in as_frames(images)])


def single_and_mirrored(
    model: Classifier, images: Images
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the probabilities of images as of a `Dataset`, and averaged with their mirrors'."""
    single = predict_images(model, images)
    flipped = predict_images(model, images[:, :, ::-1])
    return single, (single + flipped) * np.float32(0.5)


def evaluate_file(path: Path, held_out: HeldOut) -> dict[str, Any]:
    """Score an ONNX file.

    Returns:
        ``evaluated_on``, and scores under ``single`` (each image as it is) and ``mirrored`` (the
        probabilities of the image and of its mirror image averaged), plain values for JSON.
    """
    single, mirrored = single_and_mirrored(open_file(path), held_out.images)
    return {
        "evaluated_on": held_out.name,
        "single": held_out.scores(single),
        "mirrored": held_out.scores(mirrored),
    }
