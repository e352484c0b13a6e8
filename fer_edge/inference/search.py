"""From a face network's maps to boxes, in numpy: what a search does around the network.

`fer_edge.contract.DetectorSpec` says what the maps hold.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fer_edge._base._cv2 import cv2
from fer_edge.image.read import Frame

Maps = Sequence[NDArray[np.float32]]
RunFn = Callable[[NDArray[np.float32]], Maps]
"""The network: float32 (1, 3, H, W), BGR, 0-255 -> one map (1, C, H / stride, W / stride) a stride.
"""

BOX_CHANNELS = 5
"""Channels before those of the points: score, shift in x and y, log width and log height."""

_GREY = 114.0
"""Level of what lies beyond a picture's edge."""
_LOG_SIDE = (-4.0, 6.0)
"""Bounds of a side's logarithm, beyond which nothing is a face."""
_MOST = 5000
"""Cells that are looked at, the surest first: no picture holds so many faces."""


@dataclass(frozen=True)
class Found:
    """Faces that were found in a picture.

    Attributes:
        boxes: float32 (N, 4): x1, y1, x2, y2 in pixels.
        scores: float32 (N,), 0-1.
        points: float32 (N, P, 2): x and y in pixels.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    points: NDArray[np.float32]

    def only(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """Return those of certain numbers, in their order, or where a mask is true."""
        return type(self)(self.boxes[chosen], self.scores[chosen], self.points[chosen])

    def moved(self, left: int, top: int, scale: float) -> Self:
        """Return them as pixels of a picture of which they were found in a part, made smaller."""
        corner = np.array([left, top], np.float32)
        return type(self)(
            (self.boxes + np.tile(corner, 2)) / scale, self.scores, (self.points + corner) / scale
        )


def join(parts: Sequence[Found]) -> Found:
    """Return all faces of several searches."""
    return Found(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.points for part in parts]),
    )


def search(
    run: RunFn,
    frame_bgr: Frame,
    *,
    strides: Sequence[int],
    least: float,
    overlap: float,
    side: int,
    scale: float = 0.0,
) -> Found:
    """Find the faces of a picture, the surest first.

    It is searched as a whole, made smaller if need be, and once more for small faces in tiles of a
    larger form of it where ``scale`` asks for that: the larger form alone would miss the large
    faces. No picture is enlarged.

    Args:
        run: The network.
        frame_bgr: uint8 (H, W, 3).
        strides: Of its maps.
        least: Score that a face must exceed.
        overlap: Of two boxes that overlap by more (intersection over union), the surer stays.
        side: Longer side at which the whole is searched, and side of the tiles, pixels.
        scale: Least size of the picture at which small faces are looked for, as a share of its own.
    """
    whole = min(1.0, side / max(frame_bgr.shape[:2]))
    small = shrink(frame_bgr, whole)
    parts = [decode(run(to_input(small, max(strides))), strides, least).moved(0, 0, whole)]
    scale = min(1.0, scale)
    if scale > whole:
        parts += _search_tiles(run, frame_bgr, strides, least, side, scale, scale / whole)
    found = join(parts)
    return found.only(suppress(found.boxes, found.scores, overlap))


def _search_tiles(
    run: RunFn,
    frame_bgr: Frame,
    strides: Sequence[int],
    least: float,
    side: int,
    scale: float,
    finer: float,
) -> Iterator[Found]:
    """Yield the faces of each tile that are too small to be found in the whole picture."""
    picture = shrink(frame_bgr, scale)
    # What fills half a cell of the coarsest map in the whole picture is found there.
    largest = min(side // 2, math.ceil(max(strides) * max(2.0, finer / 2)))
    height, width = picture.shape[:2]
    for top, bottom, core_top, core_bottom in _tiles(height, side, largest):
        for left, right, core_left, core_right in _tiles(width, side, largest):
            maps = run(to_input(picture[top:bottom, left:right], max(strides)))
            found = decode(maps, strides, least)
            sides = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1, initial=0)
            x, y = (found.boxes[:, :2] + found.boxes[:, 2:]).T / 2 + [[left], [top]]
            # Of the tiles that show a face, the one counts that has all of it.
            own = (x >= core_left) & (x < core_right) & (y >= core_top) & (y < core_bottom)
            yield found.only(own & (sides <= largest)).moved(left, top, scale)


def _tiles(length: int, side: int, overlap: int) -> Iterator[tuple[int, int, float, float]]:
    """Yield begin and end of tiles along a length, and of the part of each that no other has."""
    count = 1 if length <= side else math.ceil((length - overlap) / (side - overlap))
    begins = [round(number * (length - side) / max(1, count - 1)) for number in range(count)]
    for number, begin in enumerate(begins):
        first, last = number == 0, number == count - 1
        core_begin = -math.inf if first else (begin + begins[number - 1] + side) / 2
        core_end = math.inf if last else (begins[number + 1] + begin + side) / 2
        yield max(0, begin), min(length, begin + side), core_begin, core_end


def shrink(image: Frame, scale: float) -> Frame:
    """Make a picture smaller by averaging areas; a scale from 1 leaves it as it is."""
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def to_input(frame_bgr: Frame, step: int) -> NDArray[np.float32]:
    """Return a picture as the network takes it: float32 (1, 3, H, W), grey up to whole steps."""
    height, width = frame_bgr.shape[:2]
    image = np.empty((1, 3, -(-height // step) * step, -(-width // step) * step), np.float32)
    image[:, :, height:] = _GREY
    image[:, :, :height, width:] = _GREY
    for channel, plane in zip(image[0], cv2.split(frame_bgr), strict=True):
        channel[:height, :width] = plane
    return image


def decode(maps: Maps, strides: Sequence[int], least: float) -> Found:
    """Return the cells that score more than ``least``, with their boxes and points, in no order."""
    least_logit = -np.inf if least <= 0 else np.inf if least >= 1 else np.log(least / (1 - least))
    parts = []
    for cells, stride in zip(maps, strides, strict=True):
        rows, columns = np.nonzero(cells[0, 0] > least_logit)
        chosen = cells[0][:, rows, columns].T
        middles = np.stack([columns, rows], axis=1).astype(np.float32) + 0.5
        centres = middles + chosen[:, 1:3]
        halves = np.exp(np.clip(chosen[:, 3:BOX_CHANNELS], *_LOG_SIDE)) / 2
        boxes = np.concatenate([centres - halves, centres + halves], axis=1) * stride
        shifts = chosen[:, BOX_CHANNELS:]
        points = shifts.reshape(len(chosen), shifts.shape[1] // 2, 2) + middles[:, None]
        scores = 1 / (1 + np.exp(-np.minimum(chosen[:, 0], 80)))
        finite = np.isfinite(boxes).all(axis=1) & np.isfinite(points).all(axis=(1, 2))
        parts.append(Found(boxes, scores, points * stride).only(finite))
    return join(parts)


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], overlap: float
) -> NDArray[np.intp]:
    """Return which boxes to keep, the surest first: none overlaps a surer one by more."""
    order = np.argsort(-scores, kind="stable")[:_MOST]
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
