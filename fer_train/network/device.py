"""The device that Keras runs on: its precision, what it compiled before, gradients by back end."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.contract import IMAGE_SIZE
from fer_train.network._keras import keras

PREDICTION_BATCH = 256
_BATCH_PIXELS = 4 * PREDICTION_BATCH * IMAGE_SIZE**2


def prediction_batch(shape: Sequence[int]) -> int:
    """Return how many inputs (N, ...) are answered at once: fewer of large images, for memory."""
    pixels = shape[1] * shape[2] if len(shape) == 4 else 1
    return max(1, min(PREDICTION_BATCH, _BATCH_PIXELS // pixels))


def choose_precision(precision: str) -> str:
    """Return the Keras dtype policy; ``auto``: bfloat16 products where they are faster."""
    if precision != "auto":
        return precision
    if on_accelerator():
        return "mixed_bfloat16"
    if keras.backend.backend() == "jax":
        # XLA's convolutions on processors gain nothing by it, whatever the processor has.
        return "float32"
    flags = _processor_flags()
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


def keep_programs(folder: Path) -> None:
    """Let JAX keep what it compiles in a folder, where later processes find it.

    Each version of JAX and each kind of device has a folder of its own there. Where
    ``JAX_COMPILATION_CACHE_DIR`` is set, it counts. TensorFlow keeps nothing.
    """
    if keras.backend.backend() != "jax" or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    kind = jax.devices()[0].device_kind
    if not on_accelerator():
        # Programs for one processor may hold instructions that another lacks.
        kind += f"-{hashlib.sha256(_processor_flags().encode()).hexdigest()[:8]}"
    name = re.sub(r"[^a-z0-9.]+", "-", f"jax-{jax.__version__}-{kind}".lower())
    path = str(folder / name)
    if jax.config.jax_compilation_cache_dir != path:
        jax.config.update("jax_compilation_cache_dir", path)
        compilation_cache.reset_cache()


def _processor_flags() -> str:
    """Return what Linux says of the first processor's instructions; elsewhere nothing."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return ""
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
