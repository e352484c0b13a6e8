"""Keras, quietly, or one clear message: write ``from fer_train.network._keras import keras``."""

import contextlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator

from fer_edge.errors import DependencyError

# Read by the back ends when they are imported: no chatter, no grabbing of all GPU memory.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# TensorFlow leaves oneDNN's kernels off where a processor has AVX2 alone, and there a training step
# of the edge model takes 1.4 times as long without them.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# A new model for each fold is meant; TensorFlow warns of its tracing each time.
logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextlib.contextmanager
def _native_chatter_silenced() -> Iterator[None]:
    """Drop what native libraries write to standard error past Python; exceptions still show."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


try:
    with _native_chatter_silenced():
        import keras

        # The search for GPUs complains natively too, where there is none.
        keras.distribution.list_devices()
        if keras.backend.backend() != "tensorflow" and importlib.util.find_spec("tensorflow"):
            # Keras loads it all the same when it trains, and it is as talkative then.
            import tensorflow  # noqa: F401
except ValueError as error:
    # Keras names a back end that it does not know so.
    raise DependencyError(
        f"Expected KERAS_BACKEND=tensorflow or jax, received "
        f"{os.environ.get('KERAS_BACKEND')!r} ({error})"
    ) from error
except ImportError as error:
    raise DependencyError(
        f"Keras or its back end cannot be loaded ({error}); run: pip install 'fer-edge[train]', or "
        "with KERAS_BACKEND=jax: pip install 'fer-edge[train,jax]'"
    ) from error

__all__ = ["keras"]
