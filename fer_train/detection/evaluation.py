"""How well a detector finds the faces of pictures: recall, false boxes and the curve of both.

A box finds a face when they overlap by 0.4 (intersection over union); the surest box has the first
choice, and each face is found once. Boxes on ignored regions count neither way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_edge.image.read import Frame
from fer_edge.inference.search import overlaps
from fer_train.detection.pictures import FACE, IGNORED, Picture

# A picture -> boxes float32 (N, 4) as x1, y1, x2, y2, and their scores (N,).
FindFn = Callable[[Frame], tuple[NDArray[np.float32], NDArray[np.float32]]]

OVERLAP = 0.4
# Bounds of the sizes that are reported apart: a face's side in pixels, the root of its area.
SIZES = (0.0, 16.0, 24.0, 32.0, 64.0, 128.0, np.inf)
_IN_IGNORED = 0.5  # of a box's area
_OVER_IGNORED = 0.3
_GREY = (114.0, 114.0, 114.0)


@dataclass(frozen=True)
class Outcome:
    """What a detector made of pictures.

    Attributes:
        sides: float32 (F,), of all faces, in pixels.
        found_at: float32 (F,), the score of the box that found each; 0 where none did.
        false_empty: Scores of the boxes in pictures without a face, (N,).
        false_elsewhere: Scores of the other false boxes.
        empty: Pictures without a face.
    """

    sides: NDArray[np.float32]
    found_at: NDArray[np.float32]
    false_empty: NDArray[np.float32]
    false_elsewhere: NDArray[np.float32]
    empty: int

    def recall(self, threshold: float, least_side: float = 0, below: float = np.inf) -> float:
        """Return the share of the faces of certain sides that are found; NaN for no face."""
        chosen = (self.sides >= least_side) & (self.sides < below)
        return float(np.mean(self.found_at[chosen] > threshold)) if chosen.any() else float("nan")

    def false(self, threshold: float) -> tuple[int, int]:
        """Return the false boxes in pictures without a face, and elsewhere."""
        return int((self.false_empty > threshold).sum()), int(
            (self.false_elsewhere > threshold).sum()
        )

    def threshold_for(self, false_boxes: int) -> float:
        """Return the lowest threshold with at most so many false boxes in pictures without a face.

        The highest score that is one box too many: a box must exceed the threshold to count.
        """
        scores = np.sort(self.false_empty)[::-1]
        return float(scores[false_boxes]) if len(scores) > false_boxes else 0.0

    def precision_recall(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return precision and recall over all pictures, at the score of each box, falling."""
        true = self.found_at[self.found_at > 0]
        scores = np.concatenate([true, self.false_empty, self.false_elsewhere])
        hits = np.arange(len(scores)) < len(true)
        hits = hits[np.argsort(-scores, kind="stable")]
        found = np.cumsum(hits)
        return found / np.arange(1, len(hits) + 1), found / max(1, len(self.sides))

    def average_precision(self) -> float:
        """Return the area under the curve, with precision made never to rise with recall."""
        precision, recall = self.precision_recall()
        falling = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.sum(np.diff(recall, prepend=0.0) * falling))


def evaluate(pictures: Sequence[Picture], find: FindFn) -> Outcome:
    """Search pictures, with ``find`` giving boxes down to a low score, and compare."""
    sides, found_at, false_empty, false_elsewhere = [], [], [], []
    for picture in pictures:
        boxes, scores = find(picture.pixels())
        faces = picture.faces[picture.faces[:, -1] == FACE]
        taken, false = match(boxes, scores, faces[:, :4])
        box = faces[:, 2:4] - faces[:, :2]
        sides.append(np.sqrt(box[:, 0] * box[:, 1]))
        found_at.append(taken)
        if picture.empty:
            false_empty.append(scores[false])
        else:
            false_elsewhere.append(scores[false & ~on_ignored(boxes, picture)])
    return Outcome(
        _joined(sides),
        _joined(found_at),
        _joined(false_empty),
        _joined(false_elsewhere),
        sum(picture.empty for picture in pictures),
    )


def _joined(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32)


def match(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], faces: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Give each box the face that it overlaps most of those left, the surest box first.

    Returns:
        float32 (F,), the score of the box that found each face, 0 where none did; bool (N,), which
        boxes found none.
    """
    taken = np.zeros(len(faces), np.float32)
    false = np.ones(len(boxes), np.bool_)
    if not len(faces) or not len(boxes):
        return taken, false
    table = overlaps(boxes, faces)
    free = np.ones(len(faces), np.bool_)
    for number in np.argsort(-scores, kind="stable"):
        row = np.where(free, table[number], 0)
        face = int(row.argmax())
        if row[face] >= OVERLAP:
            taken[face], false[number], free[face] = scores[number], False, False
    return taken, false


def on_ignored(boxes: NDArray[np.float32], picture: Picture) -> NDArray[np.bool_]:
    """Return which boxes (N, 4) lie on regions of a picture that count neither way."""
    ignored = picture.faces[picture.faces[:, -1] == IGNORED, :4]
    if not len(ignored) or not len(boxes):
        return np.zeros(len(boxes), np.bool_)
    start = np.maximum(boxes[:, None, :2], ignored[None, :, :2])
    stop = np.minimum(boxes[:, None, 2:], ignored[None, :, 2:])
    common = np.prod(np.maximum(stop - start, 0), axis=-1)
    own = np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)[:, None]
    inside = common / np.maximum(own, 1e-9) >= _IN_IGNORED
    near = inside | (overlaps(boxes, ignored) >= _OVER_IGNORED)
    return np.asarray(near.any(axis=1), np.bool_)


def evaluate_turned(
    pictures: Sequence[Picture],
    find: FindFn,
    threshold: float,
    degrees: Sequence[float],
    least_side: float = 28,
) -> dict[float, tuple[float, float]]:
    """Turn pictures with one face, of at least a side, and say how often it is still found.

    Returns:
        By degrees: the share of all faces found, and of those found upright the share found; NaN
        of none.
    """
    single = []
    for picture in pictures:
        if len(picture.faces) == 1 and picture.faces[0, -1] == FACE:
            box = picture.faces[:, :4]
            if np.sqrt(np.prod(box[0, 2:] - box[0, :2])) >= least_side:
                single.append((picture.pixels(), box))
    found = {}
    for angle in (0.0, *degrees):
        hits = []
        for frame, face in single:
            turned, box = turn(frame, face, angle)
            boxes, scores = find(turned)
            hits.append(match(boxes, scores, box)[0][0] > threshold)
        found[angle] = np.array(hits, np.bool_)
    upright = found[0.0]
    return {angle: (_share(hits), _share(hits[upright])) for angle, hits in found.items()}


def _share(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else float("nan")


def turn(
    frame_bgr: Frame, boxes: NDArray[np.float32], degrees: float
) -> tuple[Frame, NDArray[np.float32]]:
    """Turn a picture whole, on a larger grey ground, and its boxes (N, 4) as ellipses in them."""
    height, width = frame_bgr.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = round(width * cos + height * sin), round(width * sin + height * cos)
    matrix[:, 2] += size[0] / 2 - width / 2, size[1] / 2 - height / 2
    turned = cv2.warpAffine(frame_bgr, matrix, size, borderValue=_GREY)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    a, b = ((boxes[:, 2:] - boxes[:, :2]) / 2).T
    half = np.stack([np.hypot(a * cos, b * sin), np.hypot(a * sin, b * cos)], axis=1)
    return np.asarray(turned, np.uint8), np.concatenate(
        [middles - half, middles + half], axis=1
    ).astype(np.float32)
