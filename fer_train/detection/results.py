"""The results of a trained detector: scores, the curve of precision and recall, and pictures."""

import csv
import io
import itertools
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_edge.inference.search import Found
from fer_train.detection.evaluation import (
    SIZES,
    Outcome,
    evaluate,
    evaluate_turned,
    match,
    on_ignored,
)
from fer_train.detection.finders import SearchFn
from fer_train.detection.pictures import FACE, Picture
from fer_train.run.folder import write_bytes, write_text

CURVE, EXAMPLES = "curve.csv", "examples"
FALSE_SHARE = 0.05
"""The threshold is where so many false boxes come in a picture without a face, on average."""
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
DEGREES = (20.0, 30.0, 45.0, 60.0)
_DEFAULT_THRESHOLD = 0.5
_CURVE_ROWS = 400
_EXAMPLES = 12
_EXAMPLE_SIDE = 480
# BGR of Okabe and Ito's colours: found, false and missed; missed faces have broken lines too.
Colour = tuple[int, int, int]
_GREEN, _ORANGE, _BLUE = (115, 158, 0), (0, 94, 213), (178, 114, 0)


def evaluate_detector(find: SearchFn, pictures: Sequence[Picture], folder: Path) -> dict[str, Any]:
    """Evaluate a detector, and write its curve and pictures with boxes.

    Args:
        find: The detector, down to a low score.
        pictures: What it has not trained on.
        folder: Where `CURVE` and `EXAMPLES` go.

    Returns:
        What metrics.json says: plain values, None where there was nothing to measure.
    """

    def boxes(found: Found) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return found.boxes, found.scores

    found = [find(picture.pixels()) for picture in pictures]
    in_order = iter(found)
    outcome = evaluate(pictures, lambda frame: boxes(next(in_order)))
    threshold = choose_threshold(outcome)
    _write_curve(outcome, folder / CURVE)
    _write_examples(pictures, found, threshold, folder / EXAMPLES)
    turned = evaluate_turned(pictures, lambda frame: boxes(find(frame)), threshold, DEGREES)
    return {
        "faces": len(outcome.sides),
        "pictures": len(pictures),
        "empty": outcome.empty,
        "average_precision": _plain(outcome.average_precision()),
        "threshold": threshold,
        "at": [_at(outcome, value) for value in sorted({*THRESHOLDS, threshold})],
        "sizes": [
            {
                "from": low,
                "below": None if math.isinf(high) else high,
                "faces": int(((outcome.sides >= low) & (outcome.sides < high)).sum()),
                "recall": _plain(outcome.recall(threshold, low, high)),
            }
            for low, high in itertools.pairwise(SIZES)
        ],
        "turned": [
            {"degrees": degrees, "found": _plain(every), "of_upright": _plain(upright)}
            for degrees, (every, upright) in turned.items()
        ],
    }


def choose_threshold(outcome: Outcome) -> float:
    """Return the threshold at which few boxes come in pictures without a face; see `FALSE_SHARE`.

    With too few of these pictures to tell, 0.5.
    """
    allowed = int(FALSE_SHARE * outcome.empty)
    if not allowed:
        return _DEFAULT_THRESHOLD
    return min(0.9, max(0.1, math.ceil(100 * outcome.threshold_for(allowed)) / 100))


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


def _at(outcome: Outcome, threshold: float) -> dict[str, Any]:
    empty, elsewhere = outcome.false(threshold)
    found = int((outcome.found_at > threshold).sum())
    boxes = found + empty + elsewhere
    return {
        "threshold": threshold,
        "recall": _plain(outcome.recall(threshold)),
        "precision": round(found / boxes, 4) if boxes else None,
        "false_empty": empty,
        "false_elsewhere": elsewhere,
    }


def _write_curve(outcome: Outcome, path: Path) -> None:
    precision, recall = (
        np.concatenate([[first], values])
        for first, values in zip((1, 0), outcome.precision_recall(), strict=True)
    )
    # Every so many boxes one row: a page draws no more.
    chosen = np.unique(np.linspace(0, len(recall) - 1, min(len(recall), _CURVE_ROWS)).astype(int))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("recall", "precision"))
    writer.writerows((f"{recall[row]:.5f}", f"{precision[row]:.5f}") for row in chosen)
    write_text(path, buffer.getvalue())


def _write_examples(
    pictures: Sequence[Picture], found: Sequence[Found], threshold: float, folder: Path
) -> None:
    """Draw the pictures with the most faults, and as many others spread over the set."""
    shutil.rmtree(folder, ignore_errors=True)
    faults = []
    for picture, own in zip(pictures, found, strict=True):
        _, _, false, missed = _compare(picture, own, threshold)
        faults.append(int(false.sum()) + len(missed))
    worst = sorted(range(len(pictures)), key=lambda number: -faults[number])[: _EXAMPLES // 2]
    rest = [
        number
        for number in range(len(pictures))
        if number not in worst and len(pictures[number].faces)
    ]
    spread = rest[:: max(1, len(rest) // (_EXAMPLES // 2))][: _EXAMPLES // 2]
    for place, number in enumerate([*worst, *spread]):
        image = draw_example(pictures[number], found[number], threshold)
        encoded = cv2.imencode(".png", image)[1].tobytes()
        write_bytes(folder / f"{place:02d}.png", encoded)


def _compare(
    picture: Picture, found: Found, threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Return the boxes above a threshold, their scores, which are false, and the missed faces.

    Boxes on regions that count neither way are left out.
    """
    found = found.only(found.scores > threshold)
    faces = picture.faces[picture.faces[:, -1] == FACE, :4]
    taken, false = match(found.boxes, found.scores, faces)
    kept = ~(false & on_ignored(found.boxes, picture))
    return found.boxes[kept], found.scores[kept], false[kept], faces[taken == 0]


def draw_example(picture: Picture, found: Found, threshold: float) -> NDArray[np.uint8]:
    """Draw what was found (green), what is false (orange) and what was missed (blue, broken)."""
    frame = picture.pixels()
    scale = _EXAMPLE_SIDE / max(frame.shape[:2])
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=kind), np.uint8)
    boxes, scores, false, missed = _compare(picture, found, threshold)
    for box, score, wrong in zip(boxes * scale, scores, false, strict=True):
        colour = _ORANGE if wrong else _GREEN
        x1, y1, x2, y2 = (round(float(side)) for side in box)
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, 2, cv2.LINE_AA)
        _write(image, f"{score:.2f}{' false' if wrong else ''}", x1, y1, colour)
    for box in missed * scale:
        _broken_rectangle(image, *(round(float(side)) for side in box))
    return image


def _write(image: NDArray[np.uint8], text: str, x: int, y: int, colour: Colour) -> None:
    """Write white on a colour above a box, inside of the picture."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (width, height), _ = cv2.getTextSize(text, font, size, 1)
    x, y = max(0, min(x, image.shape[1] - width - 4)), max(height + 6, y)
    cv2.rectangle(image, (x, y - height - 6), (x + width + 4, y), colour, -1)
    cv2.putText(image, text, (x + 2, y - 4), font, size, (255, 255, 255), 1, cv2.LINE_AA)


def _broken_rectangle(image: NDArray[np.uint8], x1: int, y1: int, x2: int, y2: int) -> None:
    for start in range(x1, x2, 8):
        for y in (y1, y2):
            cv2.line(image, (start, y), (min(x2, start + 4), y), _BLUE, 2)
    for start in range(y1, y2, 8):
        for x in (x1, x2):
            cv2.line(image, (x, start), (x, min(y2, start + 4)), _BLUE, 2)
