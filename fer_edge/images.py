"""Reading pictures safely: limits before decoding, orientation, transparency, depth."""

import sys
from pathlib import Path

import numpy as np

from fer_edge._cv2 import cv2
from fer_edge.errors import ImageError
from fer_edge.preprocess import Frame

MAX_PIXELS = 64_000_000
"""Pictures of more pixels are refused before they are decoded."""
MAX_BYTES = 256 * 2**20
"""Files of more bytes are refused before they are read."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
    | {".pgm", ".ppm", ".pnm", ".pbm"}
)


def read_image(
    source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Frame:
    """Read a picture.

    Args:
        source: Path, or the file's content.
        max_pixels: Larger pictures are refused before they are decoded.
        max_bytes: Larger files are refused before they are read.

    Returns:
        (H, W, 3) uint8 BGR, turned as its EXIF orientation asks.

    Raises:
        ImageError: The file is missing, beyond the limits, or not a picture that can be read.
    """
    data = source if isinstance(source, bytes) else _read_bytes(Path(source), max_bytes)
    if not data:
        raise ImageError("Expected a picture, received an empty file")
    try:
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(
            f"Expected a picture, received one that is damaged ({error.err})"
        ) from error
    if frame is None:
        raise ImageError("Expected a picture, received a file that is damaged or of another kind")
    if frame.shape[0] * frame.shape[1] > max_pixels:
        raise ImageError(
            f"Expected at most {max_pixels} pixels, received {frame.shape[1]} x {frame.shape[0]}; "
            "raise --max-pixels"
        )
    return np.asarray(frame, np.uint8)


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise ImageError("Expected a picture, found no such file") from error
    except OSError as error:
        raise ImageError(f"Expected a picture that can be read: {error.strerror}") from error
    if len(data) > max_bytes:
        raise ImageError(f"Expected a file of at most {max_bytes} bytes, received more")
    return data


def read_stdin(max_bytes: int = MAX_BYTES) -> bytes:
    """Read a picture's bytes from standard input."""
    return sys.stdin.buffer.read(max_bytes + 1)
