"""Hard negatives: what is taken for a face in pictures without one, to be shown in training."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import RunError
from fer_edge.image.read import Frame
from fer_edge.inference.search import Found, join, overlaps, suppress
from fer_train.detection.finders import OVERLAP, SearchFn
from fer_train.detection.pictures import Picture
from fer_train.detection.tiles import Decoy
from fer_train.run.folder import write_text

ZOOMS = (0.5, 1.0, 2.0)
"""Sizes at which pictures are searched: what looks like a face at one need not at another."""
_MOST = 8
_LEAST = 0.1
_LEAST_LOGIT, _MOST_LOGIT = -2.0, 1.5
# Sides in pixels at which a place is looked at again, and whether mirrored.
_VIEWS = ((24, False), (40, True), (64, False))
_LEAST_SCORE = 0.02
_GREY = (114, 114, 114)


def find_decoys(
    pictures: Iterable[Picture], finders: Sequence[SearchFn], *, below: float = np.inf
) -> list[tuple[Decoy, float]]:
    """Search pictures without a face for what looks like one.

    Args:
        pictures: Those that are ``empty`` are searched.
        finders: The first searches, at several sizes; all say how much a place looks like a face,
            see `face_logits`.
        below: What looks more like a face than this, a logit, is left out.

    Returns:
        Decoys, and the mean logit of each. The more a place looks like a face, the oftener it is
        shown.
    """
    found = []
    for picture in pictures:
        if not picture.empty:
            continue
        frame = picture.pixels()
        places = _search(frame, finders[0])
        for box in places.boxes.tolist():
            logit = float(np.mean(face_logits(frame, box, finders)))
            if _LEAST_LOGIT < logit <= below:
                weight = round(float(np.exp(min(logit, _MOST_LOGIT))), 3)
                found.append((Decoy(picture.name, tuple(np.round(box, 1).tolist()), weight), logit))
    return found


def _search(frame: Frame, find: SearchFn) -> Found:
    parts = []
    for zoom in ZOOMS:
        kind = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        part = find(np.asarray(cv2.resize(frame, None, fx=zoom, fy=zoom, interpolation=kind)))
        parts.append(part.moved(0, 0, zoom).only(part.scores > _LEAST))
    found = join(parts)
    return found.only(suppress(found.boxes, found.scores, OVERLAP)[:_MOST])


def face_logits(
    frame_bgr: Frame, box: Sequence[float], finders: Sequence[SearchFn]
) -> NDArray[np.float64]:
    """Say how much a place looks like a face: the mean logit of each finder over views of it.

    Args:
        frame_bgr: uint8 (H, W, 3).
        box: x1, y1, x2, y2 in pixels.
        finders: Detectors, down to a low score.

    Returns:
        float64 (J,); NaN for a place that is too small to be looked at.
    """
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    side = float(np.sqrt(width * height))
    logits = []
    for wanted, mirrored in _VIEWS:
        if wanted > 3 * side + 8:
            continue
        scale, canvas = wanted / side, 4 * wanted
        frame, shrunk = frame_bgr, 1.0
        if scale < 0.6:
            shrunk = scale
            frame = np.asarray(
                cv2.resize(frame_bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            )
        middle = np.array([x1 + x2, y1 + y2]) / 2 * scale
        zoom = scale / shrunk
        matrix = np.array([[zoom, 0, canvas / 2 - middle[0]], [0, zoom, canvas / 2 - middle[1]]])
        view = cv2.warpAffine(frame, matrix, (canvas, canvas), borderValue=_GREY)
        if mirrored:
            view = view[:, ::-1]
        half = np.array([width, height]) * scale / 2
        own = np.concatenate([canvas / 2 - half, canvas / 2 + half])[None].astype(np.float32)
        scores = []
        for find in finders:
            found = find(np.ascontiguousarray(view, np.uint8))
            near = overlaps(own, found.boxes)[0] > OVERLAP
            scores.append(float(found.scores[near].max(initial=_LEAST_SCORE)))
        logits.append(logit(np.array(scores)))
    return np.mean(logits, axis=0) if logits else np.full(len(finders), np.nan)


def logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logits of scores, of which none counts as quite sure."""
    bounded = np.clip(scores, _LEAST_SCORE, 1 - _LEAST_SCORE)
    return np.asarray(np.log(bounded / (1 - bounded)))


def write_decoys(path: Path, decoys: Sequence[Decoy]) -> None:
    """Write decoys as a table, atomically."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("file", "x1", "y1", "x2", "y2", "weight"))
    writer.writerows((decoy.name, *decoy.box, decoy.weight) for decoy in decoys)
    write_text(path, buffer.getvalue())


def read_decoys(path: Path) -> list[Decoy]:
    """Read what `write_decoys` wrote.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        return [
            Decoy(
                row["file"],
                (float(row["x1"]), float(row["y1"]), float(row["x2"]), float(row["y2"])),
                float(row["weight"]),
            )
            for row in csv.DictReader(io.StringIO(path.read_text("utf-8")))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"Expected a table of decoys at {path}, received {error}") from error
