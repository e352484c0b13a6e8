"""Emotions over time as a picture, drawn with OpenCV alone."""

import math

import numpy as np

from fer_edge._base._cv2 import cv2
from fer_edge.image.read import Frame
from fer_edge.picture.draw import emotion_color
from fer_edge.video.history import BINS, History, TrackHistory

WIDTH = 1280
MOST_FACES = 6
"""Faces that get a panel; the others stand in the summary."""

_PANEL = 150
_LEFT, _RIGHT = 70, 30
_TOP, _GAP, _BOTTOM = 78, 40, 60
_INK = (40, 40, 40)
_PAPER = (255, 255, 255)
_ABSENT = (244, 244, 244)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


def draw_timeline(history: History, title: str) -> Frame:
    """Draw the probabilities of each face as a band of stacked colours over time.

    Args:
        history: A finished history; the faces seen longest are drawn.
        title: Stands on top.

    Returns:
        (H, 1280, 3) uint8 BGR; H grows with the faces.
    """
    tracks = history.tracks()[:MOST_FACES]
    panels = max(1, len(tracks))
    height = _TOP + panels * (_PANEL + _GAP) + _BOTTOM
    canvas = np.full((height, WIDTH, 3), _PAPER, np.uint8)
    _text(canvas, title, (_LEFT, 30), 0.7)
    _draw_legend(canvas, history)
    end_s = max(history.end_s, 1e-3)
    for index in range(panels):
        top = _TOP + _GAP // 2 + index * (_PANEL + _GAP) + 10
        _draw_panel(canvas, history, tracks[index] if tracks else None, top, end_s)
    _draw_time(canvas, end_s, height - _BOTTOM)
    return canvas


def _draw_legend(canvas: Frame, history: History) -> None:
    x = _LEFT
    for label in history.labels:
        color = emotion_color(label, history.labels)
        cv2.rectangle(canvas, (x, 48), (x + 16, 64), color, -1)
        _text(canvas, label, (x + 23, 62), 0.5)
        x += 45 + cv2.getTextSize(label, _FONT, 0.5, 1)[0][0]


def _draw_panel(
    canvas: Frame, history: History, past: TrackHistory | None, top: int, end_s: float
) -> None:
    width = WIDTH - _LEFT - _RIGHT
    panel = canvas[top : top + _PANEL, _LEFT : _LEFT + width]
    panel[:] = _ABSENT
    if past is None:
        _text(canvas, "no face was seen", (_LEFT + 10, top + _PANEL // 2), 0.5)
        return
    steps = (np.arange(width) + 0.5) * (end_s / width / history.bin_s)
    shares = past.shares()[np.minimum(steps.astype(int), BINS - 1)]
    # NaN, where the face was not seen, compares as false and leaves the column empty.
    tops = _PANEL * (1 - np.cumsum(shares, axis=1))
    rows = np.arange(_PANEL)[:, None] + 0.5
    floor = np.full(width, float(_PANEL))
    for index, label in enumerate(history.labels):
        panel[(rows >= tops[:, index]) & (rows < floor)] = emotion_color(label, history.labels)
        floor = tops[:, index]
    for share in (0, 0.5, 1):
        y = top + round(_PANEL * (1 - share))
        _text(canvas, f"{share:.0%}", (_LEFT - 52, y + 5), 0.4)
        cv2.line(canvas, (_LEFT - 5, y), (_LEFT - 1, y), _INK, 1)
    _text(canvas, f"face {past.track}, seen for {past.total_s:.1f} s", (_LEFT, top - 8), 0.5)


def _draw_time(canvas: Frame, end_s: float, top: int) -> None:
    width = WIDTH - _LEFT - _RIGHT
    step_s = next((step for step in _STEPS_S if end_s / step <= 12), 86400.0)
    for tick in range(math.floor(end_s / step_s + 1e-6) + 1):
        x = _LEFT + round(tick * step_s / end_s * (width - 1))
        cv2.line(canvas, (x, top - 8), (x, top - 2), _INK, 1)
        minutes, seconds = divmod(tick * step_s, 60)
        label = f"{tick * step_s:g}" if end_s < 60 else f"{minutes:.0f}:{seconds:02.0f}"
        half = cv2.getTextSize(label, _FONT, 0.45, 1)[0][0] // 2
        _text(canvas, label, (min(x - half, WIDTH - 2 * half - 4), top + 16), 0.45)
    unit = "seconds" if end_s < 60 else "minutes:seconds"
    _text(canvas, f"time, {unit}", (_LEFT, top + 40), 0.5)


def _text(canvas: Frame, text: str, where: tuple[int, int], scale: float) -> None:
    # OpenCV's own fonts have no letters beyond ASCII.
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(canvas, plain, where, _FONT, scale, _INK, 1, cv2.LINE_AA)
