"""Boxes, labels and bars on pictures, with OpenCV alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fer_edge._base._cv2 import cv2
from fer_edge.errors import OutputError
from fer_edge.image.read import Frame
from fer_edge.inference.classifier import FaceResult

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
WRITTEN_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"))
"""Names of pictures that `encode` writes."""

_READABLE_SIDE = 400
_FONT = cv2.FONT_HERSHEY_DUPLEX


def emotion_color(label: str, labels: Sequence[str]) -> Color:
    """Return the BGR colour of a label; white where it is none of the labels."""
    return _PALETTE[list(labels).index(label) % len(_PALETTE)] if label in labels else (255,) * 3


def draw_faces(frame_bgr: Frame, faces: Sequence[FaceResult], *, top: int = 3) -> Frame:
    """Draw a box, the label and the likeliest emotions' bars for each face.

    Args:
        frame_bgr: (H, W, 3) uint8 BGR; left as it is.
        faces: Results with boxes in the frame's pixels, the most important first.
        top: Bars for each face.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = frame_bgr.copy()
    scale = max(0.75, max(canvas.shape[:2]) / 1000)
    for face in reversed(faces):
        _draw_face(canvas, face, scale, top)
    return canvas


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


def _draw_face(canvas: Frame, face: FaceResult, scale: float, top: int) -> None:
    labels = list(face.probabilities)
    left, up, width, height = face.box
    stroke = max(1, round(2 * scale))
    color = emotion_color(face.emotion, labels)
    cv2.rectangle(canvas, (left, up), (left + width - 1, up + height - 1), color, stroke)
    rows = [
        (
            f"{item.label} {item.probability:.0%}",
            item.probability,
            emotion_color(item.label, labels),
        )
        for item in face.top(top)
    ]
    if face.emotion not in labels:
        rows.insert(0, (face.emotion, 0.0, color))
    line, pad = round(24 * scale), round(4 * scale)
    panel_width, panel_height = round(190 * scale), line * len(rows) + pad
    # Below the box where there is room, else above it, else over its lower part.
    y = up + height
    if y + panel_height > canvas.shape[0]:
        y = up - panel_height if up >= panel_height else max(0, canvas.shape[0] - panel_height)
    x = max(0, min(left, canvas.shape[1] - panel_width))
    panel = canvas[y : y + panel_height, x : x + panel_width]
    panel[:] = panel // 4
    for index, (text, share, ink) in enumerate(rows):
        bottom = y + line * (index + 1)
        corner = (x + pad + round((panel_width - 2 * pad) * share), bottom)
        cv2.rectangle(canvas, (x + pad, bottom - line + pad), corner, ink, -1)
        where = (x + 2 * pad, bottom - round(6 * scale))
        for shade, weight in ((0, 3 * stroke), (255, max(1, stroke // 2))):
            cv2.putText(canvas, text, where, _FONT, 0.6 * scale, (shade,) * 3, weight, cv2.LINE_AA)


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
