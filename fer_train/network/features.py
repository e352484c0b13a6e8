"""Frozen-backbone features: computed once, kept beside the run, shared by all folds and epochs."""

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_train.network._keras import keras
from fer_train.network.models import leaves
from fer_train.run.folder import LOCK, locked, write_atomic, write_text

_BATCH = 64


def backbone_features(
    backbone: keras.Model, images: NDArray[np.uint8], folder: Path
) -> NDArray[np.float32]:
    """Return what a frozen backbone makes of each image, from the folder if it is there already.

    Args:
        backbone: Model of float32 (N, S, S, 1 or 3) 0-255; its dropout and batch normalisation run
            in inference mode, as they do in a frozen layer.
        images: uint8 (N, S, S, 1 or 3).
        folder: Where features are kept, under the digest of backbone and images.

    Returns:
        float32 (N, ...), memory-mapped and read-only.

    Raises:
        RunError: The folder cannot be written.
    """
    path = folder / f"{_digest(backbone, images)}.npy"
    # The second of two processes waits for the first and then reads what it wrote.
    with locked(folder / LOCK, wait=True):
        if not _is_whole(path):
            write_atomic(path, lambda temporary: _compute(backbone, images, temporary))
            write_text(path.with_suffix(".sha256"), _file_digest(path))
    features: NDArray[np.float32] = np.load(path, mmap_mode="r")
    return features


def _compute(backbone: keras.Model, images: NDArray[np.uint8], path: Path) -> None:
    header = np.lib.format.header_data_from_array_1_0(np.empty(0, np.float32))
    header["shape"] = (len(images), *backbone.output_shape[1:])
    # Not through a memory map: where the disk is full, that ends the process with a bus error.
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(images), _BATCH * 16):
            part = images[start : start + _BATCH * 16].astype(np.float32)
            features = backbone.predict(part, batch_size=_BATCH, verbose=0)
            file.write(np.ascontiguousarray(features, np.float32).data)


def _digest(backbone: keras.Model, images: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(json.dumps([list(w.shape) for w in backbone.weights]).encode())
    # In bfloat16 the same weights give other features.
    digest.update(str(sorted({layer.compute_dtype for layer in leaves(backbone)})).encode())
    # Rescaling layers have no weights, and they differ between recipes.
    scales = [layer.get_config() for layer in backbone.layers if layer.name == "scale"]
    digest.update(json.dumps([(scale["scale"], scale["offset"]) for scale in scales]).encode())
    for weight in backbone.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()[:32]


def _is_whole(path: Path) -> bool:
    written = path.with_suffix(".sha256")
    return path.is_file() and written.is_file() and written.read_text("utf-8") == _file_digest(path)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
