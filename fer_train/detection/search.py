"""From the network's maps to boxes, in numpy: what a search for faces does around the network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_train.detection.network import STRIDES

Frame = NDArray[np.uint8]
Maps = Sequence[NDArray[np.float32]]

SUPPRESSION = 0.4
_PADDING = 114


@dataclass(frozen=True)
class Found:
    """The faces found in a picture, the surest first.

    Attributes:
        boxes: float32 (N, 4): x1, y1, x2, y2 in the picture's pixels.
        scores: float32 (N,), 0-1.
        points: float32 (N, 5, 2), x and y; see `network.CHANNELS`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    points: NDArray[np.float32]


def search(
    run: Callable[[NDArray[np.float32]], Maps], frame_bgr: Frame, least: float, side: int = 640
) -> Found:
    """Find the faces in a picture.

    Args:
        run: The network: float32 (1, 3, H, W), BGR, 0-255 -> maps (1, 15, h, w), one a stride.
        frame_bgr: uint8 (H, W, 3).
        least: Least score of a face.
        side: A picture whose longer side exceeds it is made smaller; none is enlarged.
    """
    height, width = frame_bgr.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        frame_bgr = np.asarray(cv2.resize(frame_bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
    step = STRIDES[-1]
    padded = np.full(
        (*(-(-length // step) * step for length in frame_bgr.shape[:2]), 3), _PADDING, np.uint8
    )
    padded[: frame_bgr.shape[0], : frame_bgr.shape[1]] = frame_bgr
    found = decode(run(padded.transpose(2, 0, 1)[None].astype(np.float32)), least)
    kept = suppress(found.boxes, found.scores)
    return Found(found.boxes[kept] / scale, found.scores[kept], found.points[kept] / scale)


def decode(maps: Maps, least: float) -> Found:
    """Return the cells that score more than ``least``, with their boxes and points, in no order."""
    least_logit = np.log(least / (1 - least)) if least > 0 else -np.inf
    boxes, scores, points = [], [], []
    for cells, stride in zip(maps, STRIDES, strict=True):
        rows, columns = np.nonzero(cells[0, 0] > least_logit)
        chosen = cells[0][:, rows, columns].T
        middles = np.stack([columns, rows], axis=1).astype(np.float32) + 0.5
        centres = middles + chosen[:, 1:3]
        halves = np.exp(np.clip(chosen[:, 3:5], -4, 6)) / 2
        boxes.append(np.concatenate([centres - halves, centres + halves], axis=1) * stride)
        scores.append(1 / (1 + np.exp(-chosen[:, 0])))
        points.append((chosen[:, 5:].reshape(-1, 5, 2) + middles[:, None]) * stride)
    return Found(np.concatenate(boxes), np.concatenate(scores), np.concatenate(points))


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], overlap: float = SUPPRESSION
) -> NDArray[np.intp]:
    """Return which boxes to keep, the surest first: none overlaps a surer one by more."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[overlaps(boxes[best : best + 1], boxes[order])[0] <= overlap]
    return np.array(kept, np.intp)


def overlaps(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the overlap (intersection over union) of each of N boxes with each of M: (N, M)."""
    start = np.maximum(one[:, None, :2], other[None, :, :2])
    stop = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.prod(np.maximum(stop - start, 0), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - common
    return np.asarray(common / np.maximum(union, 1e-9), np.float32)
