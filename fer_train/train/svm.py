"""The classical baseline: a linear support vector machine on histograms of oriented gradients.

Source: Dalal & Triggs, *Histograms of Oriented Gradients for Human Detection*, CVPR 2005, with
cells of 8 x 8 pixels and 9 orientations; probabilities by Platt scaling on inner folds.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from fer_edge.contract import IMAGE_SIZE
from fer_edge.errors import DataError
from fer_train.data.load import Dataset
from fer_train.data.pixels import grey_thumbnails
from fer_train.data.votes import vote_targets
from fer_train.run.folder import LOCK, RunFold, locked
from fer_train.run.usages import usage_scores

_INNER_FOLDS = 3
_CELL, _BINS = 8, 9


class SvmTrainer:
    """Trains the baseline on one fold; no epochs, so nothing to resume and no curves.

    Images of any size and colour are seen grey and 48 x 48.

    Args:
        fold: The fold; an inner split of its training images trains too.
        dataset: All images of its run, labels in the order of the protocol's.
    """

    def __init__(self, fold: RunFold, dataset: Dataset) -> None:
        """Take the parts; nothing is computed yet."""
        self.fold, self.dataset = fold, dataset

    @property
    def device(self) -> str:
        """What computes."""
        return "scikit-learn on cpu:0"

    def train(
        self,
        report: Callable[[Any], None] = lambda progress: None,
        written: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Fit and evaluate; return what metrics.json holds. There is nothing to report before.

        Raises:
            RunError: Another process trains this fold, or the folder cannot be written.
            DataError: An emotion has too few images.
        """
        with locked(self.fold.folder / LOCK):
            if not self.fold.is_done:
                self._fit()
            return self.fold.score

    def _fit(self) -> None:
        start = time.perf_counter()
        split, protocol, labels = self.fold.split, self.fold.run.protocol, self.dataset.labels
        by_public = protocol.steer == "PublicTest"
        # Nothing is steered by them: an inner split of the training images trains too.
        train = split.train if by_public else np.concatenate([split.train, split.inner])
        taught = labels[train]
        if self.dataset.votes is not None:
            # It learns classes alone: that of most votes.
            shares = vote_targets(self.dataset.votes[train], protocol.labels).shares
            taught = shares.argmax(axis=1)
        fewest = np.unique(taught, return_counts=True)[1].min()
        if fewest < _INNER_FOLDS:
            raise DataError(
                f"Expected {_INNER_FOLDS} training images or more of each emotion for svm, "
                f"received {fewest}; use a larger --limit"
            )
        # The primal problem is the smaller one here, and the faster.
        machine = LinearSVC(C=0.001, dual=False, random_state=protocol.seed)
        model = make_pipeline(StandardScaler(), CalibratedClassifierCV(machine, cv=_INNER_FOLDS))
        model.fit(gradient_histograms(grey_thumbnails(self.dataset.images[train])), taught)
        training_s = time.perf_counter() - start
        start = time.perf_counter()
        probabilities = self._predict(model, split.test)
        steering = self._predict(model, split.inner) if by_public else None
        self.fold.write_results(
            self.dataset,
            probabilities,
            {
                "training_images": int(train.size),
                "training_s": training_s,
                "evaluation_s": time.perf_counter() - start,
                "device": self.device,
                "dtype_policy": "float64",
                **usage_scores(self.fold, self.dataset, probabilities, steering),
            },
        )

    def _predict(self, model: Any, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the probabilities of images: (n, K); 0 of classes that none trained."""
        predictions = np.zeros((numbers.size, len(self.fold.run.protocol.labels)), np.float32)
        images = gradient_histograms(grey_thumbnails(self.dataset.images[numbers]))
        predictions[:, model.classes_] = model.predict_proba(images)
        return predictions


def gradient_histograms(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe uint8 (N, 48, 48) grey images by float32 (N, 900) normalised histograms.

    As OpenCV's ``HOGDescriptor``, which is gone from version 5: blocks of 2 x 2 cells at each cell,
    a Gaussian over each block, votes shared among the nearest two bins and cells, L2-Hys.
    """
    # A few at a time: the votes take 36 bytes a pixel.
    chunks = [images[start : start + 256] for start in range(0, len(images), 256)]
    return np.concatenate([_histograms(chunk.astype(np.float32)) for chunk in chunks])


def _histograms(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(levels, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    across = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    down = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    strength = np.hypot(across, down)
    place = np.arctan2(down, across) * (_BINS / np.pi) - 0.5
    lower = np.floor(place)
    votes = np.zeros((*levels.shape, _BINS), np.float32)
    for bin_index, share in ((lower, lower + 1 - place), (lower + 1, place - lower)):
        index = bin_index.astype(int)[..., None] % _BINS
        np.put_along_axis(votes, index, (strength * share)[..., None], axis=-1)
    rule = _cell_weights()
    rows = (rule.T @ votes.reshape(len(levels), IMAGE_SIZE, -1)).reshape(-1, IMAGE_SIZE, _BINS)
    side = IMAGE_SIZE // _CELL - 1
    cells = (rule.T @ rows).reshape(-1, side, 2, side, 2, _BINS)
    # Column by column, blocks and cells alike.
    blocks = cells.transpose(0, 3, 1, 4, 2, 5)
    blocks = blocks.reshape(len(levels), side * side, 4 * _BINS)
    length = np.linalg.norm(blocks, axis=-1, keepdims=True)
    blocks = np.minimum(blocks / (length + 0.4 * _BINS), 0.2)
    length = np.linalg.norm(blocks, axis=-1, keepdims=True)
    return np.asarray((blocks / (length + 1e-3)).reshape(len(levels), -1), np.float32)


def _cell_weights() -> NDArray[np.float32]:
    """Return (48, 10): what a row of pixels counts in the two cells of each of five blocks."""
    inside = np.arange(2 * _CELL)
    gaussian = np.exp(-((inside - _CELL) ** 2) / (_CELL**2 / 2))
    distance = np.abs((inside[:, None] + 0.5) / _CELL - 0.5 - np.arange(2))
    block = gaussian[:, None] * np.maximum(1 - distance, 0)
    rule = np.zeros((IMAGE_SIZE, IMAGE_SIZE // _CELL - 1, 2), np.float32)
    for index in range(rule.shape[1]):
        rule[index * _CELL : (index + 2) * _CELL, index] = block
    return rule.reshape(IMAGE_SIZE, -1)
