"""Finished models as teachers: one prediction of an image, by several files.

Each file predicts for an image and for its mirror image; the mean of all is what they teach.
Source: Beyer et al., *Knowledge distillation: A good teacher is patient and consistent*, 2022.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.contract import IMAGE_SIZE
from fer_edge.errors import ModelError, RunError
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.preprocess import prepare
from fer_train.network._keras import keras
from fer_train.network.models import load_trained, predict

PredictFn = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From uint8 (N, 48, 48) grey images to their probabilities, float32 (N, K)."""


def open_teacher(path: Path, labels: Sequence[str]) -> PredictFn:
    """Load a model file that teaches.

    Args:
        path: A Keras file of float32 (N, 48, 48, 1) images, grey, 0-255, to probabilities in the
            order of ``labels``; or any ONNX file that `fer_edge.Classifier` reads.
        labels: The student's emotions.

    Raises:
        RunError: It is no such file, or has other emotions.
    """
    return _open_onnx(path, labels) if path.suffix == ".onnx" else _open_keras(path, labels)


def load_keras_teacher(path: Path, labels: Sequence[str]) -> keras.Model:
    """Read a Keras file that teaches; see `open_teacher`."""
    net = load_trained(path, "a run, a Keras file or, with --views, an ONNX file to teach")
    shapes = [tuple(net.input_shape), tuple(net.output_shape)]
    if shapes != [(None, IMAGE_SIZE, IMAGE_SIZE, 1), (None, len(labels))]:
        raise RunError(
            f"Expected a teacher of {', '.join(labels)} in images of "
            f"{IMAGE_SIZE} x {IMAGE_SIZE}, received one from {shapes[0]} to {shapes[1]}"
        )
    return net


def mean_prediction(
    teachers: Sequence[PredictFn], images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Return the teachers' mean predictions: float32 (N, K) for uint8 (N, 48, 48)."""
    return np.asarray(np.mean([teacher(images) for teacher in teachers], axis=0), np.float32)


def _open_keras(path: Path, labels: Sequence[str]) -> PredictFn:
    net: Any = load_keras_teacher(path, labels)

    def predict_both_sides(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        both = predict(net, images) + predict(net, images[:, :, ::-1])
        return both * np.float32(0.5)

    return predict_both_sides


def _open_onnx(path: Path, labels: Sequence[str]) -> PredictFn:
    try:
        model = Classifier(path, detector="none", mirror=True, prior=0)
    except ModelError as error:
        raise RunError(f"Expected a model to teach in {path}: {error}") from error
    if set(model.spec.labels) != set(labels):
        raise RunError(
            f"Expected a teacher of {', '.join(labels)}, received {path} of "
            f"{', '.join(model.spec.labels)}"
        )
    columns = [model.spec.labels.index(label) for label in labels]

    def predict_both_sides(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        faces = [prepare(image, [None], model.spec) for image in images]
        return model.probabilities(np.concatenate(faces))[:, columns]

    return predict_both_sides
