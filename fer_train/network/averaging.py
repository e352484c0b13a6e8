"""The mean of the weights of trainings that went on from one another.

Where one training starts from the other's end, the mean of both lies in a flatter valley of the
loss and classifies new images better than either; only the statistics of batch normalisation do not
average, and are measured anew. They are those of images changed as in training: augmentation leaves
images smoother, and it is to these that the weights are fitted. Sources: Izmailov et al.,
*Averaging Weights Leads to Wider Optima and Better Generalization*, 2018; Wortsman et al., *Model
soups*, 2022.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import RunError
from fer_train.data.pixels import with_channels
from fer_train.network._keras import keras
from fer_train.network.models import leaves, load_trained
from fer_train.run.recipes import Recipe

_BATCH = 256


def average(
    paths: Sequence[Path],
    images: NDArray[np.uint8],
    change: Callable[..., Any] | None = None,
    recipe: Recipe | None = None,
) -> Any:
    """Return a Keras model of the mean weights of several.

    Args:
        paths: Keras files of one architecture, each trained on from another's weights.
        images: uint8 training images as of a `Dataset`, on which batch statistics are measured.
        change: Augmentation of the training, of float32 (N, S, S, 1 or 3) images; None for none.
        recipe: Of the models, where they are one's own.

    Raises:
        RunError: A file cannot be read, or its weights do not match the first one's.
    """
    nets = [load_trained(path, "a trained model to average", recipe) for path in paths]
    weights = [net.get_weights() for net in nets]
    for path, own in zip(paths, weights, strict=True):
        if [array.shape for array in own] != [array.shape for array in weights[0]]:
            raise RunError(f"Expected {path} to have the layers of {paths[0]}, received others")
    net = nets[0]
    net.set_weights([np.mean(arrays, axis=0) for arrays in zip(*weights, strict=True)])
    _measure_batches(net, images, change)
    return net


def _measure_batches(
    net: Any, images: NDArray[np.uint8], change: Callable[..., Any] | None
) -> None:
    """Set the moving statistics of batch normalisation to their mean over all images."""
    normalizations = [
        layer for layer in leaves(net) if isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not normalizations:
        return
    usual = [layer.momentum for layer in normalizations]
    order = np.random.default_rng(0).permutation(len(images))
    batches = max(len(images) // _BATCH, 1)
    for number, chosen in enumerate(np.array_split(order, batches)):
        for layer in normalizations:
            layer.momentum = number / (number + 1)
        batch: Any = with_channels(images[chosen]).astype(np.float32)
        net(change(batch, training=True) if change else batch, training=True)
    for layer, momentum in zip(normalizations, usual, strict=True):
        layer.momentum = momentum
