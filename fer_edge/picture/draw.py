"""Boxes, labels and bars on pictures, with OpenCV alone; no label ever lies over a face."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fer_edge._base._cv2 import cv2
from fer_edge.errors import OutputError
from fer_edge.image.read import Frame
from fer_edge.inference.classifier import FaceResult
from fer_edge.inference.preprocess import Box, check_frame, in_color

Color = tuple[int, int, int]

# Okabe and Ito's palette as BGR: told apart by colour-blind readers too.
_PALETTE: tuple[Color, ...] = (
    (0, 94, 213),
    (115, 158, 0),
    (167, 121, 204),
    (0, 159, 230),
    (178, 114, 0),
    (66, 228, 240),
    (190, 190, 190),
    (233, 180, 86),
)
_DARK: Color = (24, 24, 24)
_WHITE: Color = (255, 255, 255)
WRITTEN_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"))
"""Names of pictures that `encode` writes."""

_READABLE_SIDE = 400
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPITAL = 21
"""Height of the font's capitals at scale 1, pixels."""
_LEAST_CAPITAL = 9
"""Capitals of fewer pixels cannot be read at 100 %."""
_TEXT_SHARE = 0.11
"""Height of capitals against the face's shorter side."""
_MOST_TEXT_SHARE = 0.03
"""The same against the picture's longer side: faces that fill it need no larger letters."""
_APART = 2
"""Pixels between two labels."""
_BARS_SIDE = 90
"""Faces get bars from so many pixels on: room for them seldom comes with smaller ones."""
_BARS_WIDTH = 1.5
"""A panel of bars is at most so many times as wide as its face."""


@dataclass(frozen=True)
class _Row:
    text: str
    color: Color
    share: float | None = None


@dataclass(frozen=True)
class Label:
    """Text that belongs to a face, or the legend, which belongs to none.

    Attributes:
        box: Where it is drawn, pixels.
        rows: Its lines, each with a colour and, where there are bars, a share.
        capital: Height of its capitals, pixels.
    """

    box: Box
    rows: Sequence[_Row]
    capital: int


def emotion_color(label: str, labels: Sequence[str]) -> Color:
    """Return the BGR colour of a label; white where it is none of the labels."""
    return _PALETTE[list(labels).index(label) % len(_PALETTE)] if label in labels else (255,) * 3


def draw_faces(frame_bgr: Frame, faces: Sequence[FaceResult], *, top: int = 3) -> Frame:
    """Draw a box for each face, in its emotion's colour, and what it shows where there is room.

    Args:
        frame_bgr: (H, W, 3) uint8 BGR, or (H, W) grey; left as it is.
        faces: Results with boxes in the frame's pixels, the most important first.
        top: Bars for each face with room.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ValueError: The frame has another dtype or shape, or a face is no result of a classifier.
    """
    check_frame(frame_bgr)
    if strange := [face for face in faces if not isinstance(face, FaceResult)]:
        raise ValueError(
            f"Expected results of a Classifier as faces, received {type(strange[0]).__name__}"
        )
    canvas = in_color(frame_bgr).copy()
    height, width = canvas.shape[:2]
    for face in reversed(faces):
        _draw_box(canvas, face)
    for label in place_labels(faces, width, height, top=top):
        _draw_label(canvas, label)
    return canvas


def draw_status(canvas: Frame, faces: Sequence[FaceResult], text: str, *, top: int = 3) -> None:
    """Write a line into a free corner of what `draw_faces` has drawn, if there is one."""
    height, width = canvas.shape[:2]
    labels = place_labels(faces, width, height, top=top)
    taken = [face.box for face in faces] + [label.box for label in labels]
    label = _Space(width, height, taken).corner([_Row(text, _DARK)], _small(width, height))
    if label:
        _draw_label(canvas, label)


def draw_large(frame_bgr: Frame, faces: Sequence[FaceResult], *, top: int = 3) -> Frame:
    """Draw as `draw_faces` does, on an enlarged copy where the picture is too small for text."""
    factor = -(-_READABLE_SIDE // max(frame_bgr.shape[:2]))
    if factor > 1:
        height, width = frame_bgr.shape[:2]
        size = (width * factor, height * factor)
        frame_bgr = np.asarray(cv2.resize(frame_bgr, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        faces = [
            replace(face, box=(x * factor, y * factor, w * factor, h * factor))
            for face in faces
            for x, y, w, h in [face.box]
        ]
    return draw_faces(frame_bgr, faces, top=top)


def place_labels(
    faces: Sequence[FaceResult], width: int, height: int, *, top: int = 3
) -> list[Label]:
    """Find places for what is said of each face: beside it, over no face and no other label.

    Each face gets a short label if one fits. Then faces with more room get bars in its place. Of
    the others the box's colour tells, and a legend what colours mean, if there is room for one.
    What is no found face but a whole picture (`WholeFrame`) has its label within.

    Args:
        faces: The most important first.
        width: The picture's, pixels.
        height: The picture's, pixels.
        top: Bars for each face with room.
    """
    whole = (0, 0, width, height)
    found = [face for face in faces if face.detector_score is not None or face.box != whole]
    space = _Space(width, height, [face.box for face in found])
    placed: dict[int, Label] = {}
    for number, face in enumerate(faces):
        for capital in _capitals(face, width, height):
            if label := space.beside(face.box, [_short(face)], capital, within=face not in found):
                placed[number] = label
                break
    for number, face in enumerate(faces):
        if number in placed and min(face.box[2:]) >= _BARS_SIDE:
            space.free(placed[number].box)
            most = _BARS_WIDTH * face.box[2]
            rows = _bars(face, top)
            larger = space.beside(
                face.box, rows, placed[number].capital, within=face not in found, most=most
            )
            placed[number] = larger or placed[number]
            space.take(placed[number].box)
    labels = list(placed.values())
    unlabelled = [face for number, face in enumerate(faces) if number not in placed]
    if unlabelled:
        colors = {face.emotion: _color(face) for face in unlabelled}
        rows = [_Row(emotion, color) for emotion, color in colors.items()]
        if label := space.corner(rows, _small(width, height)):
            labels.append(label)
    return labels


def _color(face: FaceResult) -> Color:
    return emotion_color(face.emotion, list(face.probabilities))


def _short(face: FaceResult) -> _Row:
    known = face.emotion in face.probabilities
    text = f"{face.emotion} {face.confidence:.0%}" if known else face.emotion
    return _Row(text, _color(face))


def _bars(face: FaceResult, top: int) -> list[_Row]:
    labels = list(face.probabilities)
    rows = [
        _Row(
            f"{one.label} {one.probability:.0%}", emotion_color(one.label, labels), one.probability
        )
        for one in face.top(top)
    ]
    return rows if face.emotion in labels else [_short(face), *rows]


def _small(width: int, height: int) -> int:
    """Return the height of letters that belong to no face."""
    return max(_LEAST_CAPITAL, round(_MOST_TEXT_SHARE * max(width, height) / 3))


def _capitals(face: FaceResult, width: int, height: int) -> Iterator[int]:
    """Yield heights of letters for a face: as its size asks, then the least."""
    wanted = round(_TEXT_SHARE * min(face.box[2:]))
    yield max(min(wanted, round(_MOST_TEXT_SHARE * max(width, height))), _LEAST_CAPITAL)
    if wanted > _LEAST_CAPITAL:
        yield _LEAST_CAPITAL


class _Space:
    """What is still free in a picture."""

    def __init__(self, width: int, height: int, taken: Iterable[Box]) -> None:
        self._width = width
        self._height = height
        self._taken = [_corners(box) for box in taken]

    def take(self, label: Box) -> None:
        self._taken.append(_corners(label, _APART))

    def free(self, label: Box) -> None:
        self._taken.remove(_corners(label, _APART))

    def beside(
        self, face: Box, rows: Sequence[_Row], capital: int, *, within: bool, most: float = np.inf
    ) -> Label | None:
        """Take a place for a label beside a face, or within one that fills the picture.

        Args:
            face: Its box.
            rows: The label's lines.
            capital: Height of its letters.
            within: Whether it lies within the box.
            most: Largest width of the label.
        """
        width, height = _label_size(rows, capital)
        x, y, w, h = face
        gap = max(1, capital // 5)
        if width > most:
            return None
        if len(rows) > 1:
            width = max(width, w)
        if within:
            places = [(x + gap, y + h - height - gap)]
        else:
            columns = (x, x + (w - width) // 2, x + w - width)
            inside = [min(max(column, 0), self._width - width) for column in columns]
            lines = (y, y + h - height, y + (h - height) // 2)
            places = [(column, y + h + gap) for column in inside]
            places += [(column, y - height - gap) for column in inside]
            places += [(x + w + gap, line) for line in lines]
            places += [(x - width - gap, line) for line in lines]
        return self._first(places, rows, capital, (width, height))

    def corner(self, rows: Sequence[_Row], capital: int) -> Label | None:
        """Take a place for a label in a corner, or else at an edge."""
        width, height = size = _label_size(rows, capital)
        rights, bottoms = (self._width - width, self._height - height)
        places = [(0, 0), (rights, 0), (0, bottoms), (rights, bottoms)]
        steps = [step / 16 for step in range(1, 16)]
        places += [(round(step * rights), y) for y in (0, bottoms) for step in steps]
        places += [(x, round(step * bottoms)) for x in (0, rights) for step in steps]
        return self._first(places, rows, capital, size)

    def _first(
        self,
        places: Sequence[tuple[int, int]],
        rows: Sequence[_Row],
        capital: int,
        size: tuple[int, int],
    ) -> Label | None:
        width, height = size
        taken = np.array(self._taken, np.int64).reshape(-1, 4)
        for x, y in places:
            outside = x < 0 or y < 0 or x + width > self._width or y + height > self._height
            if not outside and not _overlaps(taken, (x, y, x + width, y + height)):
                self.take((x, y, width, height))
                return Label((x, y, width, height), rows, capital)
        return None


def _corners(box: Box, margin: int = 0) -> tuple[int, int, int, int]:
    x, y, width, height = box
    return x - margin, y - margin, x + width + margin, y + height + margin


def _overlaps(taken: NDArray[np.int64], place: tuple[int, int, int, int]) -> bool:
    left, up, right, low = place
    hit = (taken[:, 0] < right) & (taken[:, 2] > left) & (taken[:, 1] < low) & (taken[:, 3] > up)
    return bool(hit.any())


def _label_size(rows: Sequence[_Row], capital: int) -> tuple[int, int]:
    """Return width and height, pixels."""
    scale, thickness = _font(capital)
    widths = [cv2.getTextSize(row.text, _FONT, scale, thickness)[0][0] for row in rows]
    pad = _pad(capital)
    return max(widths) + 3 * pad, sum(_row_height(row, capital) for row in rows) + pad


def _font(capital: int) -> tuple[float, int]:
    return capital / _CAPITAL, max(1, round(capital / 12))


def _pad(capital: int) -> int:
    return max(3, round(0.45 * capital))


def _row_height(row: _Row, capital: int) -> int:
    bar = 0 if row.share is None else _descent(capital) + _bar(capital)
    return capital + _pad(capital) + bar


def _descent(capital: int) -> int:
    return round(0.35 * capital)


def _bar(capital: int) -> int:
    return max(3, capital // 4)


def _draw_box(canvas: Frame, face: FaceResult) -> None:
    """Draw the edge of a face's box in its colour, and a dark line within for light pictures."""
    left, up, width, height = face.box
    side = min(width, height)
    stroke = min(max(2, side // 60), max(1, side // 8))
    for inset, thickness, color in ((0, stroke, _color(face)), (stroke, 1, _DARK)):
        x0, y0 = left + inset, up + inset
        x1, y1 = left + width - inset, up + height - inset
        if min(x1 - x0, y1 - y0) >= 2 * thickness:
            _fill(canvas, (x0, y0, x1, y0 + thickness), color)
            _fill(canvas, (x0, y1 - thickness, x1, y1), color)
            _fill(canvas, (x0, y0, x0 + thickness, y1), color)
            _fill(canvas, (x1 - thickness, y0, x1, y1), color)


def _fill(canvas: Frame, corners: tuple[int, int, int, int], color: Color) -> None:
    """Fill what lies within the picture; boxes may reach over its edges."""
    x0, y0, x1, y1 = (max(0, corner) for corner in corners)
    canvas[y0:y1, x0:x1] = color


def _draw_label(canvas: Frame, label: Label) -> None:
    """Draw white text on dark, with a stripe or bars in the emotions' colours."""
    x, y, width, height = label.box
    canvas[y : y + height, x : x + width] = _DARK
    scale, thickness = _font(label.capital)
    pad = _pad(label.capital)
    for row in label.rows:
        tall = _row_height(row, label.capital)
        baseline = y + pad // 2 + label.capital + 1
        if row.share is None:
            canvas[y : y + tall + pad, x : x + pad] = row.color
        else:
            room = width - 3 * pad
            line = baseline + _descent(label.capital) + 1
            bar = slice(line, line + _bar(label.capital))
            canvas[bar, x + 2 * pad : x + 2 * pad + round(room * row.share)] = row.color
            canvas[y : y + tall + pad, x : x + pad] = label.rows[0].color
        where = (x + 2 * pad, baseline)
        cv2.putText(canvas, row.text, where, _FONT, scale, _WHITE, thickness, cv2.LINE_AA)
        y += tall


def encode(frame_bgr: Frame, suffix: str) -> bytes:
    """Encode a picture for a file of that suffix, such as ``.png``.

    Raises:
        OutputError: The picture is larger than that format can hold.
        ValueError: OpenCV writes no such files.
    """
    if suffix.lower() not in WRITTEN_SUFFIXES:
        raise ValueError(f"Expected a picture format that OpenCV writes, received {suffix}")
    try:
        done, data = cv2.imencode(suffix, frame_bgr)
    except cv2.error:
        done, data = False, np.empty(0, np.uint8)
    if not done:
        height, width = frame_bgr.shape[:2]
        raise OutputError(f"{width} x {height} pixels do not fit into a {suffix} file")
    return np.asarray(data).tobytes()
