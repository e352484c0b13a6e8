"""From a frame and a face box to a model's input: the only place that crops, greys and resizes.

The trainer reads its images through the same functions, so that a model sees in use what it saw in
training.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fer_edge._base._cv2 import cv2
from fer_edge.contract import ModelSpec
from fer_edge.image.read import Frame

Box = tuple[int, int, int, int]
"""Left, top, width and height of a face, pixels of the frame; may reach over its edges."""

Points = tuple[tuple[float, float], ...]
"""Points of a face, x and y in pixels of the frame: the eye left in the picture, the other eye,
then any."""

LEAST_TILT = 12.0
"""Degrees from which faces are turned upright before a model sees them.

`benchmarks/alignment.py`: models lose nothing up to there, and the eyes' places are known to some
degrees only.
"""


def crop_face(frame_bgr: Frame, box: Box, margin: float = 0.0) -> Frame:
    """Cut a square around a face; parts outside the frame repeat its edge pixels.

    Args:
        frame_bgr: (H, W, 3) uint8 BGR, or (H, W) grey.
        box: The face, pixels.
        margin: Share of the box's longer side that is added on each side.

    Returns:
        (S, S, 3) uint8 BGR or (S, S) grey, S at least 1.

    Raises:
        ValueError: The box is empty or lies outside the frame.
    """
    left, top, width, height = box
    frame_height, frame_width = frame_bgr.shape[:2]
    if width < 1 or height < 1:
        raise ValueError(f"Expected a box of at least 1 x 1 pixels, received {box}")
    if left >= frame_width or top >= frame_height or left + width <= 0 or top + height <= 0:
        raise ValueError(f"Expected a box inside {frame_width} x {frame_height}, received {box}")
    x0, y0, side = _square(box, margin)
    columns = np.clip(np.arange(x0, x0 + side), 0, frame_width - 1)
    rows = np.clip(np.arange(y0, y0 + side), 0, frame_height - 1)
    if (
        columns[0] == x0
        and columns[-1] == x0 + side - 1
        and rows[0] == y0
        and rows[-1] == y0 + side - 1
    ):
        return frame_bgr[y0 : y0 + side, x0 : x0 + side]
    return frame_bgr[rows[:, None], columns]


def _square(box: Box, margin: float) -> tuple[int, int, int]:
    """Return left, top and side of the square around a face."""
    left, top, width, height = box
    side = max(1, round(max(width, height) * (1 + 2 * margin)))
    x0 = math.floor(left + (width - side) / 2 + 0.5)
    return x0, math.floor(top + (height - side) / 2 + 0.5), side


def tilt(points: Points) -> float:
    """Return by how many degrees a face is turned clockwise in the picture, by its eyes."""
    (left_x, left_y), (right_x, right_y) = points[:2]
    return math.degrees(math.atan2(right_y - left_y, right_x - left_x))


def align_face(frame_bgr: Frame, box: Box, points: Points | None, margin: float = 0.0) -> Frame:
    """Cut a square around a face as `crop_face` does, turned so that the eyes are level.

    Args:
        frame_bgr: (H, W, 3) uint8 BGR, or (H, W) grey.
        box: The face, pixels.
        points: Its eyes first; without them it is cut as it is.
        margin: Share of the box's longer side that is added on each side.

    Returns:
        (S, S, 3) uint8 BGR or (S, S) grey, S at least 1.

    Raises:
        ValueError: The box is empty or lies outside the frame.
    """
    upright = crop_face(frame_bgr, box, margin)
    if points is None:
        return upright
    left, top, width, height = box
    middle = (left + (width - 1) / 2, top + (height - 1) / 2)
    x0, y0, side = _square(box, margin)
    turn = np.asarray(cv2.getRotationMatrix2D(middle, tilt(points), 1.0), np.float64)
    turn[:, 2] -= x0, y0
    turned = cv2.warpAffine(frame_bgr, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, np.uint8)


def to_gray(image: Frame) -> Frame:
    """Turn (H, W, 3) uint8 BGR into (H, W) uint8 grey by ITU-R BT.601; grey images pass through."""
    if image.ndim == 2:
        return image
    if image.shape[2] == 1:
        return image[:, :, 0]
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)


def in_color(image: Frame) -> Frame:
    """Turn (H, W) or (H, W, 1) uint8 grey into (H, W, 3) BGR; others pass through."""
    if image.ndim == 2 or image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    return image


def resize(image: Frame, size: tuple[int, int]) -> Frame:
    """Resize to (height, width): by pixel area where it shrinks, bilinearly where it grows."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] > height or image.shape[1] > width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def check_frame(frame_bgr: Frame) -> None:
    """Check that a frame is (H, W, 3) or (H, W) uint8.

    Raises:
        ValueError: It has another dtype or shape, or no pixels.
    """
    if not isinstance(frame_bgr, np.ndarray):
        raise ValueError(f"Expected a frame as a numpy array, received {type(frame_bgr).__name__}")
    if frame_bgr.dtype != np.uint8:
        raise ValueError(f"Expected a uint8 frame with levels 0-255, received {frame_bgr.dtype}")
    if frame_bgr.ndim not in (2, 3) or (frame_bgr.ndim == 3 and frame_bgr.shape[2] not in (1, 3)):
        raise ValueError(f"Expected a frame of (H, W) or (H, W, 3), received {frame_bgr.shape}")
    if not frame_bgr.size:
        raise ValueError(f"Expected a frame with pixels, received {frame_bgr.shape}")


def prepare(
    frame_bgr: Frame,
    boxes: Sequence[Box | None],
    spec: ModelSpec,
    points: Sequence[Points | None] = (),
) -> NDArray[np.float32]:
    """Turn the faces of one frame into a model's input batch.

    Args:
        frame_bgr: (H, W, 3) uint8 BGR, or (H, W) grey.
        boxes: The faces; None means that the whole frame is the face.
        spec: What the model expects.
        points: Of each face: those that are tilted are turned upright. None, or no list, leaves
            faces as they are.

    Returns:
        float32 (N, height, width, channels), or (N, channels, height, width) for ``nchw``, in the
        spec's range.

    Raises:
        ValueError: The frame has another dtype or shape, or a box lies outside of it.
    """
    check_frame(frame_bgr)
    batch = np.empty((len(boxes), *spec.input_size, spec.channels), np.float32)
    for row, box, known in zip(batch, boxes, points or [None] * len(boxes), strict=True):
        if box is None:
            face = frame_bgr
        elif known is not None and abs(tilt(known)) >= LEAST_TILT:
            face = align_face(frame_bgr, box, known, spec.margin)
        else:
            face = crop_face(frame_bgr, box, spec.margin)
        row[:] = _to_channels(resize(_reduce(face, spec), spec.input_size), spec)
    low, high = spec.range
    if (low, high) != (0.0, 255.0):
        batch *= (high - low) / 255.0
        batch += low
    if any(spec.mean):
        batch -= np.asarray(spec.mean, np.float32)
    if any(value != 1.0 for value in spec.std):
        batch /= np.asarray(spec.std, np.float32)
    return batch if spec.layout == "nhwc" else np.ascontiguousarray(batch.transpose(0, 3, 1, 2))


def _reduce(face: Frame, spec: ModelSpec) -> Frame:
    # Grey before resizing: a third of the work, and what FER-2013's own images went through.
    return to_gray(face) if spec.color == "gray" else face


def _to_channels(face: Frame, spec: ModelSpec) -> Frame:
    if spec.color == "gray":
        return face[:, :, None]
    face = in_color(face)
    return face if spec.color == "bgr" else face[:, :, ::-1]
