"""What an epoch teaches, and the layers by which a network learns it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_train.network._keras import keras


@dataclass(frozen=True)
class Lesson:
    """What an epoch teaches, in the order in which it is seen.

    Attributes:
        order: int32 (N,) image numbers.
        inputs: Arrays of N rows for the inputs of the model that is trained.
        targets: float32 (N, K).
        weights: float32 (N,) shares in the loss.
    """

    order: NDArray[np.int32]
    inputs: list[NDArray[Any]]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]


class ImageTable(keras.layers.Layer):  # type: ignore[misc]
    """Looks images up by number: int32 (N,) -> float32 (N, ...), from memory on the device."""

    def __init__(self, images: NDArray[Any]) -> None:
        """Copy uint8 or float images (M, ...) to the device."""
        super().__init__(name="image_table", dtype="float32", trainable=False)
        self.table = self.add_weight(
            shape=images.shape, dtype=str(images.dtype), initializer="zeros", trainable=False
        )
        self.table.assign(images)

    def call(self, numbers: Any) -> Any:
        """Gather the images."""
        return keras.ops.cast(keras.ops.take(self.table, numbers, axis=0), "float32")


class Taught(keras.layers.Layer):  # type: ignore[misc]
    """Adds to the loss how far answers are from a teacher's, in cross-entropy.

    The teacher answers the very images that the student sees, and their mirror images; the mean of
    both is the target.
    """

    def __init__(self, teacher: keras.Model, weight: float) -> None:
        """Take a model of the same images and classes, and the loss's weight."""
        super().__init__(name="taught", dtype="float32", trainable=False)
        self.teacher, self.weight = teacher, weight
        teacher.trainable = False

    def call(self, answers: Any, images: Any) -> Any:
        """Return the answers (N, K) to images (N, H, W, 1) as they are."""
        both = keras.ops.concatenate([images, keras.ops.flip(images, axis=2)])
        one, other = keras.ops.split(self.teacher(both, training=False), 2)
        targets = keras.ops.stop_gradient((one + other) / 2)
        loss = keras.ops.categorical_crossentropy(targets, answers)
        self.add_loss(self.weight * keras.ops.mean(loss))
        return answers


def mixed_targets(
    one_hot: NDArray[np.float32], answers: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    """Mix float32 (N, K) labels with a teacher's answers; where these are NaN, labels stay."""
    mixed = (1 - weight) * one_hot + weight * answers
    return np.where(np.isnan(mixed), one_hot, mixed).astype(np.float32)
