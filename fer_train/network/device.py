"""The device that Keras runs on, the precision that suits it, and gradients by its back end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_train.network._keras import keras

PREDICTION_BATCH = 256


def choose_precision(precision: str) -> str:
    """Return the Keras dtype policy; ``auto``: bfloat16 products where the hardware has them."""
    if precision != "auto":
        return precision
    if on_accelerator():
        return "mixed_bfloat16"
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return "float32"
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def describe_device() -> str:
    """Name the back end and the devices that it uses, such as ``tensorflow on cpu:0``."""
    return f"{keras.backend.backend()} on {', '.join(keras.distribution.list_devices())}"


def on_accelerator() -> bool:
    """Tell whether there is a device other than processors."""
    return any("cpu" not in device for device in keras.distribution.list_devices())


def gradient(function: Callable[[Any], Any], point: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the gradient of a function of an array to a number, at a point: float32."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(point), np.float32)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        variable = tf.constant(point)
        tape.watch(variable)
        value = function(variable)
    return np.asarray(tape.gradient(value, variable), np.float32)
