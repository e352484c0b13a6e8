"""Labels that people have not given: a teacher's, and what two detectors agree on.

People's word stands: where they have said where the faces of a picture are, what a teacher finds
besides is a region that counts neither way, since a face may be there.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_edge.image.read import Frame
from fer_edge.inference.search import Found, join, overlaps, suppress
from fer_train.data.load import Dataset
from fer_train.detection.finders import OVERLAP, SearchFn
from fer_train.detection.mining import face_logits, find_decoys, logit
from fer_train.detection.pictures import COLUMNS, FACE, IGNORED, POINTS, Picture

SURE = 0.8
"""A teacher's score from which on it is believed."""
UNSURE = 0.3
"""From here on a face may be there."""
_NOTHING = 0.1
"""A picture in which nothing scores more holds no face, as far as a teacher can tell."""
_TURNS = (-30.0, 30.0)
# Mean logits of two detectors over views: a doubtful region is a face; something in a picture
# without a face is one that was overlooked.
_AGREED, _NOT_AGAINST, _OVERLOOKED = 0.2, -0.3, 1.4
_LEAST_SIDE = 9.0
_NEAR = 0.3

CROP = "crop:"
"""How the names of crops begin."""

# Where the face lies in a crop that was made by a detector such as FER-2013's, as shares of it.
_USUAL = np.array([5.2, -0.3, 43.6, 49.4]) / 48
_HARD, _EASY = (-2.2, 0.3), 3000
_HARD_WEIGHT, _EASY_WEIGHT = 0.35, 0.2
_GREY = (114, 114, 114)
_NO_FRAME = np.zeros((0, 0, 3), np.uint8)


def label(pictures: Sequence[Picture], teacher: SearchFn) -> list[Picture]:
    """Label the pictures of which nobody has said what they hold, and doubt the others' gaps.

    A teacher's sure finds are faces with its score as their certainty; the less sure are ignored,
    and so is what it finds beside the faces that people have named. Where people have named no
    picture without a face, those serve in which the teacher finds nothing at all.
    """
    people = any(picture.empty for picture in pictures)
    labelled = []
    for picture in pictures:
        if picture.empty:
            labelled.append(picture)
            continue
        found = find_turned(picture.pixels(), teacher)
        if not people and not picture.labelled and not (found.scores > _NOTHING).any():
            labelled.append(dataclasses.replace(picture, empty=True))
            continue
        found = found.only(found.scores >= UNSURE)
        if len(picture.faces):
            seen = overlaps(found.boxes, picture.faces[:, :4]) > _NEAR
            rows = _rows(found.only(np.flatnonzero(~seen.any(axis=1))), sure=np.inf)
        else:
            rows = _rows(found, sure=SURE)
        labelled.append(_with_rows(picture, *rows))
    return labelled


def _rows(found: Found, sure: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rows of faces, ignored where their score is below, and their certainties."""
    rows = np.empty((len(found.boxes), COLUMNS), np.float32)
    rows[:, :4], rows[:, 4:-1] = found.boxes, found.points.reshape(-1, 2 * POINTS)
    rows[:, -1] = np.where(found.scores >= sure, FACE, IGNORED)
    return rows, np.where(rows[:, -1] == FACE, found.scores, 1).astype(np.float32)


def _with_rows(
    picture: Picture, rows: NDArray[np.float32], certainty: NDArray[np.float32]
) -> Picture:
    if not len(rows):
        return picture
    return dataclasses.replace(
        picture,
        faces=np.concatenate([picture.faces, rows]),
        certainty=np.concatenate([picture.certainties, certainty]),
        empty=False,
    )


def find_turned(frame_bgr: Frame, find: SearchFn) -> Found:
    """Search a picture as it is and turned either way, for the tilted faces."""
    height, width = frame_bgr.shape[:2]
    parts = [find(frame_bgr)]
    for degrees in _TURNS:
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
        size = round(width * cos + height * sin), round(width * sin + height * cos)
        matrix[:, 2] += size[0] / 2 - width / 2, size[1] / 2 - height / 2
        turned = find(
            np.asarray(cv2.warpAffine(frame_bgr, matrix, size, borderValue=_GREY), np.uint8)
        )
        back = cv2.invertAffineTransform(matrix)
        middles = (turned.boxes[:, :2] + turned.boxes[:, 2:]) / 2 @ back[:, :2].T + back[:, 2]
        # The box around the ellipse in the box, turned back.
        a, b = ((turned.boxes[:, 2:] - turned.boxes[:, :2]) / 2).T
        half = np.stack([np.hypot(a * cos, b * sin), np.hypot(a * sin, b * cos)], axis=1)
        inside = ((middles >= 0) & (middles <= [width, height])).all(axis=1)
        points = turned.points @ back[:, :2].T + back[:, 2]
        boxes = np.concatenate([middles - half, middles + half], axis=1).astype(np.float32)
        parts.append(
            Found(boxes, turned.scores, points.astype(np.float32)).only(np.flatnonzero(inside))
        )
    found = join(parts)
    return found.only(suppress(found.boxes, found.scores, OVERLAP))


def review(pictures: Sequence[Picture], finders: Sequence[SearchFn]) -> list[Picture]:
    """Take doubtful regions for faces where two detectors agree on them.

    And what both take for a face in a picture without one, for a face that people have overlooked.
    """
    overlooked: dict[str, list[tuple[float, ...]]] = {}
    for decoy, mean in find_decoys(pictures, finders):
        if mean > _OVERLOOKED:
            overlooked.setdefault(decoy.name, []).append(decoy.box)
    reviewed = []
    for picture in pictures:
        faces = picture.faces.copy()
        doubtful = np.flatnonzero(faces[:, -1] == IGNORED)
        frame = picture.pixels() if len(doubtful) else _NO_FRAME
        for number in doubtful:
            x1, y1, x2, y2 = faces[number, :4].tolist()
            if (x2 - x1) * (y2 - y1) < _LEAST_SIDE**2:
                continue
            logits = face_logits(frame, (x1, y1, x2, y2), finders)
            if logits.mean() > _AGREED and logits.min() > _NOT_AGAINST:
                faces[number, -1] = FACE
        picture = dataclasses.replace(picture, faces=faces)
        boxes = np.array(overlooked.get(picture.name, []), np.float32).reshape(-1, 4)
        rows = np.full((len(boxes), COLUMNS), np.nan, np.float32)
        rows[:, :4], rows[:, -1] = boxes, FACE
        reviewed.append(_with_rows(picture, rows, np.ones(len(boxes), np.float32)))
    return reviewed


def crops(dataset: Dataset, finders: Sequence[SearchFn], seed: int) -> list[Picture]:
    """Return the Training images of FER-2013 as pictures of one near face each.

    All of those that the finders find hard, but do not rule out, and some of the others. Without
    finders, some, with the face where it usually lies.
    """
    numbers = np.flatnonzero(dataset.usage == "Training")
    side = dataset.images.shape[1]
    usual = (_USUAL * side).astype(np.float32)
    rng = np.random.default_rng(seed)
    if not finders:
        chosen = rng.permutation(numbers)[:_EASY]
        return [_crop(dataset, number, usual, _EASY_WEIGHT) for number in np.sort(chosen)]
    means, boxes = [], []
    for number in numbers:
        mean, box = _look_at_crop(dataset.images[number], finders)
        means.append(mean)
        # The finders' mean box where it is near the usual one; half of each where they doubt it.
        near = 0.0 if box is None else float(overlaps(usual[None], box[None])[0, 0])
        if box is not None and near > 0.35 and mean > 0:
            boxes.append(box)
        else:
            boxes.append((box + usual) / 2 if box is not None and near > 0.45 else usual)
    logits = np.array(means)
    hard = np.flatnonzero((logits > _HARD[0]) & (logits <= _HARD[1]))
    easy = np.sort(rng.permutation(np.flatnonzero(logits > _HARD[1]))[:_EASY])
    return [
        _crop(dataset, numbers[place], boxes[place], weight)
        for places, weight in ((hard, _HARD_WEIGHT), (easy, _EASY_WEIGHT))
        for place in places
    ]


def _crop(dataset: Dataset, number: int, box: NDArray[np.float32], weight: float) -> Picture:
    row = np.full((1, COLUMNS), np.nan, np.float32)
    row[0, :4], row[0, -1] = box, FACE
    encoded = _encoded(dataset.images[number])
    return Picture(_crop_name(number), encoded, row, empty=False, weight=weight)


def crops_by_name(dataset: Dataset) -> dict[str, bytes]:
    """Return all images that `crops` chooses from, as it names and encodes them."""
    numbers = np.flatnonzero(dataset.usage == "Training").tolist()
    return {_crop_name(number): _encoded(dataset.images[number]) for number in numbers}


def _crop_name(number: int) -> str:
    return f"{CROP}{number:06d}.png"


def _encoded(gray: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", gray)[1].tobytes()


def _look_at_crop(
    gray: NDArray[np.uint8], finders: Sequence[SearchFn]
) -> tuple[float, NDArray[np.float32] | None]:
    """Return the finders' mean logit of the surest face of a crop, and their mean box."""
    logits, boxes = [], []
    for zoom, border in ((1.0, cv2.BORDER_CONSTANT), (1.6, cv2.BORDER_REPLICATE)):
        larger = cv2.resize(gray, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)
        pad = (-(-int(larger.shape[0] * 1.5) // 32) * 32 - larger.shape[0]) // 2
        padded = cv2.copyMakeBorder(larger, pad, pad, pad, pad, border, value=(114,))
        frame = np.asarray(cv2.cvtColor(padded, cv2.COLOR_GRAY2BGR), np.uint8)
        for find in finders:
            found = find(frame)
            logits.append(logit(found.scores[:1].max(initial=0.0)))
            if len(found.boxes):
                boxes.append((found.boxes[0] - pad) / zoom)
    return float(np.mean(logits)), np.mean(boxes, axis=0).astype(np.float32) if boxes else None
