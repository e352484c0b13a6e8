"""Finished models as teachers: one prediction of an image, by several files.

Each file predicts for an image and for its mirror image; the mean of all is what they teach.
Source: Beyer et al., *Knowledge distillation: A good teacher is patient and consistent*, 2022.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import ModelError, RunError
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.preprocess import prepare
from fer_train.data.pixels import as_frames
from fer_train.network._keras import keras
from fer_train.network.models import load_trained, predict
from fer_train.run.recipes import Recipe

PredictFn = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From uint8 (N, S, S, 1) grey or (N, S, S, 3) RGB images to probabilities, float32 (N, K)."""


def open_teacher(
    path: Path, labels: Sequence[str], input_shape: tuple[int, ...], student: Recipe
) -> PredictFn:
    """Load a model file that teaches.

    Args:
        path: A Keras file of float32 images of that shape, 0-255, to probabilities in the order of
            ``labels``; or any ONNX file that `fer_edge.Classifier` reads.
        labels: The student's emotions.
        input_shape: Height, width and channels of the images.
        student: The student's recipe; its own code, where it has some, knows layers of the file.

    Raises:
        RunError: It is no such file, or has other emotions.
    """
    if path.suffix == ".onnx":
        return _open_onnx(path, labels)
    return both_sides(load_keras_teacher(path, labels, input_shape, student))


def load_keras_teacher(
    path: Path, labels: Sequence[str], input_shape: tuple[int, ...], student: Recipe
) -> keras.Model:
    """Read a Keras file that teaches; see `open_teacher`."""
    net = load_trained(path, "a run, a Keras file or, with --views, an ONNX file to teach", student)
    shapes = [tuple(net.input_shape), tuple(net.output_shape)]
    if shapes != [(None, *input_shape), (None, len(labels))]:
        height, width, channels = input_shape
        raise RunError(
            f"Expected a teacher of {', '.join(labels)} in images of {height} x {width} x "
            f"{channels}, received one from {shapes[0]} to {shapes[1]}; --image-size and --color "
            "say what the images are made"
        )
    return net


def mean_prediction(
    teachers: Sequence[PredictFn], images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Return the teachers' mean predictions: float32 (N, K) for uint8 (N, S, S, 1 or 3)."""
    return np.asarray(np.mean([teacher(images) for teacher in teachers], axis=0), np.float32)


def both_sides(net: Any) -> PredictFn:
    """Let a Keras model answer images and their mirror images, by the mean of both."""

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
        faces = [prepare(image, [None], model.spec) for image in as_frames(images)]
        return model.probabilities(np.concatenate(faces))[:, columns]

    return predict_both_sides
