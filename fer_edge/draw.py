"""Boxes, labels and bars on pictures, with OpenCV alone."""

from collections.abc import Sequence

import numpy as np

from fer_edge._cv2 import cv2
from fer_edge.classifier import FaceResult
from fer_edge.preprocess import Frame

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
_FONT = cv2.FONT_HERSHEY_DUPLEX


def emotion_color(label: str, labels: Sequence[str]) -> Color:
    """Return the BGR colour of a label; white where it is none of the labels."""
    return _PALETTE[list(labels).index(label) % len(_PALETTE)] if label in labels else (255,) * 3


def draw_faces(frame_bgr: Frame, faces: Sequence[FaceResult], *, top: int = 3) -> Frame:
    """Draw a box, the label and the likeliest emotions' bars for each face.

    Args:
        frame_bgr: (H, W, 3) uint8 BGR; left as it is.
        faces: Results with boxes in the frame's pixels.
        top: Bars for each face.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = frame_bgr.copy()
    scale = max(0.35, max(canvas.shape[:2]) / 1280)
    for face in reversed(faces):
        _draw_face(canvas, face, scale, top)
    return canvas


def _draw_face(canvas: Frame, face: FaceResult, scale: float, top: int) -> None:
    labels = list(face.probabilities)
    left, up, width, height = face.box
    thickness = max(1, round(2 * scale))
    color = emotion_color(face.emotion, labels)
    cv2.rectangle(canvas, (left, up), (left + width, up + height), color, thickness)
    line = round(26 * scale)
    ranked = face.top(top)
    rows = [(f"{face.emotion} {face.confidence:.0%}", None)] if not ranked else []
    panel_width = round(210 * scale)
    panel_height = line * max(1, len(ranked) + len(rows)) + line // 3
    # Below the box where there is room, else above it, else inside of it.
    y = up + height
    if y + panel_height > canvas.shape[0]:
        y = up - panel_height if up >= panel_height else canvas.shape[0] - panel_height
    y = max(0, y)
    x = max(0, min(left, canvas.shape[1] - panel_width))
    panel = canvas[y : y + panel_height, x : x + panel_width]
    panel[:] = panel // 4
    for index, emotion in enumerate(ranked):
        base = y + line * (index + 1)
        bar = round((panel_width - 8 * scale) * emotion.probability)
        cv2.rectangle(
            canvas,
            (x + round(4 * scale), base - round(20 * scale)),
            (x + round(4 * scale) + bar, base + round(3 * scale)),
            emotion_color(emotion.label, labels),
            -1,
        )
        text = f"{emotion.label} {emotion.probability:.0%}"
        where = (x + round(8 * scale), base - round(3 * scale))
        for ink, width_px in (
            ((0, 0, 0), 3 * thickness),
            ((255, 255, 255), max(1, thickness // 2)),
        ):
            cv2.putText(canvas, text, where, _FONT, 0.6 * scale, ink, width_px, cv2.LINE_AA)


def encode(frame_bgr: Frame, suffix: str) -> bytes:
    """Encode a picture for a file of that suffix, such as ``.png``."""
    done, data = cv2.imencode(suffix, frame_bgr)
    if not done:
        raise ValueError(f"Expected a picture format that OpenCV writes, received {suffix}")
    return np.asarray(data).tobytes()
