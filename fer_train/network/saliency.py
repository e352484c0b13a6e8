"""Where a network looks, and what it makes of images before its last layer."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_train.data.pixels import with_channels
from fer_train.network._keras import keras
from fer_train.network.architecture import output_shape
from fer_train.network.device import gradient, prediction_batch
from fer_train.network.models import leaves

layers = keras.layers

_SMALLEST_MAP = 3
"""Pixels that a side of a feature map needs to tell places apart."""

_ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU)


def grad_cam(
    net: keras.Model, images: NDArray[np.uint8], classes: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """Return how much each place of images speaks for a class.

    Source: Selvaraju et al., *Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization*, ICCV 2017, on the last activations whose maps are 3 x 3 or larger.

    Args:
        net: A Keras classifier of float32 (N, S, S, 1 or 3), 0-255.
        images: (N, S, S) uint8 grey or (N, S, S, 3) RGB.
        classes: (N,) the class that each image is asked about.

    Returns:
        (N, S, S) float32, 0 to 1, the highest of each image 1 unless nothing speaks for the
        class; None of a network without such maps.
    """
    layer, last = _map_layer(net), _logits_layer(net)
    if layer is None:
        return None
    inputs = with_channels(images).astype(np.float32)
    chosen = np.eye(net.output_shape[-1], dtype=np.float32)[classes]
    maps: list[Any] = []

    def evidence(shift: Any) -> Any:
        """Return the sum of the images' evidence for their classes, maps moved by ``shift``."""
        logits: list[Any] = []

        def move(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            maps[:] = [call(*arguments, **options) + shift]
            return maps[0]

        def keep(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            logits[:] = [call(*arguments, **options)]
            return logits[0]

        with _around(layer, move), _around(last, keep) if last else contextlib.nullcontext():
            outputs = net(inputs, training=False)
        # Gradients of probabilities near 1 vanish; those of what softmax takes do not.
        told = logits[0] if last else keras.ops.log(outputs + 1e-7)
        return keras.ops.sum(told * chosen)

    evidence(np.float32(0))
    activations = np.asarray(keras.ops.convert_to_numpy(maps[0]), np.float32)
    slopes = gradient(evidence, np.zeros_like(activations))
    weights = slopes.mean(axis=(1, 2), keepdims=True)
    heat = np.maximum((weights * activations).sum(axis=-1), 0)
    sizes = (images.shape[2], images.shape[1])
    wide = np.stack([cv2.resize(each, sizes, interpolation=cv2.INTER_CUBIC) for each in heat])
    wide = np.maximum(wide, 0)
    most = wide.max(axis=(1, 2), keepdims=True)
    return np.asarray(wide / np.where(most > 0, most, 1), np.float32)


def last_features(net: keras.Model, images: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Return what the last layer decides by: float32 (N, D); None of a network without a dense one.

    Args:
        net: A Keras classifier of float32 (N, S, S, 1 or 3), 0-255.
        images: (N, S, S) uint8 grey or (N, S, S, 3) RGB.
    """
    dense = [layer for layer in leaves(net) if isinstance(layer, layers.Dense)]
    if not dense:
        return None
    found: list[NDArray[np.float32]] = []

    def keep(call: Callable[..., Any], features: Any, **options: Any) -> Any:
        found.append(np.asarray(keras.ops.convert_to_numpy(features), np.float32))
        return call(features, **options)

    with _around(dense[-1], keep):
        size = prediction_batch(with_channels(images).shape)
        for start in range(0, len(images), size):
            batch = with_channels(images[start : start + size])
            net(batch.astype(np.float32), training=False)
    return np.concatenate(found)


def _map_layer(net: keras.Model) -> Any:
    """Return the last layer that activates feature maps of a size that tells places apart."""
    found = None
    for layer in leaves(net):
        shape = output_shape(layer)
        activates = isinstance(layer, _ACTIVATIONS) or (
            isinstance(layer, layers.Conv2D) and layer.activation is not keras.activations.linear
        )
        if activates and len(shape) == 4 and min(shape[1] or 0, shape[2] or 0) >= _SMALLEST_MAP:
            found = layer
    return found


def _logits_layer(net: keras.Model) -> Any:
    """Return the dense layer whose outputs softmax takes; None where it has softmax in it."""
    dense = [layer for layer in leaves(net) if isinstance(layer, layers.Dense)]
    if not dense or dense[-1].activation is not keras.activations.linear:
        return None
    return dense[-1]


@contextlib.contextmanager
def _around(layer: Any, call: Callable[..., Any]) -> Iterator[None]:
    """Let ``call`` stand around a layer's own while the block runs, wherever the layer lies."""
    own = layer.call
    layer.call = lambda *arguments, **options: call(own, *arguments, **options)
    try:
        yield
    finally:
        del layer.call
