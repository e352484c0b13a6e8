"""A model's outputs: logits, probabilities, and signs that they are described wrongly."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fer_edge.contract import ModelSpec
from fer_edge.image.read import Frame
from fer_edge.inference.preprocess import prepare, resize

Rows = NDArray[np.float32]

TOLERANCE = 1e-2
"""How far rows may be from summing to 1: half-precision outputs are that coarse."""

_SIDE = 64
_SURE = 0.9999
"""Nothing real is so sure of each picture, white and noise among them."""
_ALIKE = 0.005
"""Probabilities that differ by less do not depend on the picture."""
_WIDE = 20.0
"""No network is trained on inputs whose lowest and highest are so many standard deviations apart,
unless they are plain levels from 0 to 255."""


def softmax(logits: Rows) -> Rows:
    """Turn (N, K) logits into probabilities, rows that sum to 1."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)


def are_probabilities(rows: Rows) -> bool:
    """Tell whether the rows of (N, K) are at least 0 and sum to 1."""
    off = np.abs(rows.sum(axis=1) - 1)
    return bool(rows.min(initial=0) >= -TOLERANCE and off.max(initial=0) <= TOLERANCE)


def doubts(predict: Callable[[Rows], Rows], spec: ModelSpec) -> Iterator[str]:
    """Yield what speaks against a model's description, from what it gives for a few pictures.

    Args:
        predict: Runs the model: float32 inputs to float32 outputs, (N, labels) or more columns, as
            they come, without a softmax of ours.
        spec: How it is described.

    Raises:
        ModelError: The model fails.
    """
    batch = np.concatenate([prepare(frame, [None], spec) for frame in _pictures()])
    rows = predict(batch)[:, : len(spec.labels)]
    if not np.isfinite(rows).all():
        return
    if are_probabilities(rows):
        if spec.outputs == "logits":
            yield (
                "its output sums to 1 already, so that a second softmax makes all classes alike; "
                "give `outputs=probabilities`"
            )
    elif spec.outputs == "logits":
        rows = softmax(rows)
    else:
        yield "its output does not sum to 1; if these are logits, give `outputs=logits`"
        return
    span = (spec.range[1] - spec.range[0]) / min(spec.std)
    shown = ",".join(f"{level:g}" for level in spec.range)
    if span > _WIDE and float(rows[1:].max(axis=1).min()) >= _SURE:
        yield (
            f"it is wholly sure of each picture, even of noise: `range={shown}` does not seem to "
            "fit; try `range=0,1` or `range=-1,1`"
        )
    elif span <= _WIDE and float(np.ptp(rows, axis=0).max()) < _ALIKE:
        yield (
            f"it gives the same for each picture, black, white or noise: `range={shown}` does not "
            "seem to fit; try `range=0,255`"
        )


def _pictures() -> Iterator[Frame]:
    """Yield black, which is 0 in most ranges, white, and grey noise of two grains, (64, 64)."""
    yield np.zeros((_SIDE, _SIDE), np.uint8)
    yield np.full((_SIDE, _SIDE), 255, np.uint8)
    random = np.random.default_rng(0)
    for grain in (4, 16):
        levels = random.integers(0, 256, (grain, grain), np.uint8)
        yield resize(levels, (_SIDE, _SIDE))
