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

from fer_edge._base._cv2 import cv2
from fer_edge.contract import IMAGE_SIZE
from fer_edge.errors import DataError
from fer_train.data.folds import Fold
from fer_train.run.folder import LOCK, Run, locked, write_results

SVM = "svm"
_INNER_FOLDS = 3


class SvmTrainer:
    """Trains the baseline on one fold; no epochs, so nothing to resume and no curves.

    Args:
        run: The run.
        fold: The fold; its inner images train too, as nothing is steered by them.
        images: uint8 (N, 48, 48) images of the whole data set.
        labels: int64 (N,) classes in the order of the protocol's labels.
    """

    def __init__(
        self, run: Run, fold: Fold, images: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> None:
        """Take the parts; nothing is computed yet."""
        self.run, self.fold, self.images, self.labels = run, fold, images, labels

    @property
    def device(self) -> str:
        """What computes."""
        return "scikit-learn on cpu:0"

    def train(self, report: Callable[[Any], None] = lambda progress: None) -> dict[str, Any]:
        """Fit and judge; return what metrics.json holds.

        Raises:
            RunError: Another process trains this fold, or the folder cannot be written.
            DataError: An emotion has too few images.
        """
        with locked(self.run.fold_folder(SVM, self.fold.index) / LOCK):
            if not self.run.is_done(SVM, self.fold.index):
                self._fit()
            return self.run.score(SVM, self.fold.index)

    def _fit(self) -> None:
        start = time.perf_counter()
        train = np.concatenate([self.fold.train, self.fold.inner])
        fewest = np.unique(self.labels[train], return_counts=True)[1].min()
        if fewest < _INNER_FOLDS:
            raise DataError(
                f"Expected {_INNER_FOLDS} training images or more of each emotion for svm, "
                f"received {fewest}; use a larger --limit"
            )
        # The primal problem is the smaller one here, and the faster.
        machine = LinearSVC(C=0.001, dual=False, random_state=self.run.protocol.seed)
        model = make_pipeline(StandardScaler(), CalibratedClassifierCV(machine, cv=_INNER_FOLDS))
        model.fit(gradient_histograms(self.images[train]), self.labels[train])
        training_s = time.perf_counter() - start
        start = time.perf_counter()
        probabilities = np.zeros((self.fold.test.size, len(self.run.protocol.labels)), np.float32)
        probabilities[:, model.classes_] = model.predict_proba(
            gradient_histograms(self.images[self.fold.test])
        )
        write_results(
            self.run.fold_folder(SVM, self.fold.index),
            self.fold,
            self.labels[self.fold.test],
            probabilities,
            {
                "training_images": int(train.size),
                "training_s": training_s,
                "evaluation_s": time.perf_counter() - start,
                "device": self.device,
                "dtype_policy": "float64",
            },
        )


def gradient_histograms(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe uint8 (N, 48, 48) grey images by float32 (N, 900) normalised histograms."""
    descriptor = cv2.HOGDescriptor((IMAGE_SIZE, IMAGE_SIZE), (16, 16), (8, 8), (8, 8), 9)
    return np.stack([np.asarray(descriptor.compute(image), np.float32) for image in images])
