"""Reading pictures safely: limits before decoding, orientation, transparency, depth."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge._base._cv2 import OPENCV_VERSION, cv2
from fer_edge._base.bounded import read_at_most
from fer_edge.errors import ImageError
from fer_edge.image.fetch import fetch, is_address, without_password
from fer_edge.image.headers import SIZES, check_pixels, exif_orientation, full_range, kind_of
from fer_edge.image.pillow import PILLOW_KINDS, open_with_pillow, pil_to_array

Frame = NDArray[np.uint8]

MAX_PIXELS = 64_000_000
"""Pictures of more pixels are refused before they are decoded; phones take up to 50 million."""
MAX_BYTES = 256 * 2**20
"""Files of more bytes are refused before they are read."""

_SCAN, _END = b"\xff\xda", b"\xff\xd9"
"""Marks of a JPEG: where a scan starts, and where the picture is over."""

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".jps", ".png", ".apng", ".webp"),
        *(".tif", ".tiff", ".bmp", ".dib", ".gif", ".pbm", ".pgm", ".ppm", ".pnm"),
    )
)
"""Names by which pictures in a folder are known."""
FOREIGN_SUFFIXES = frozenset(
    (
        *(".heic", ".heif", ".heics", ".heifs", ".hif", ".avif", ".avifs"),
        *(".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".psd", ".svg", ".exr", ".hdr", ".tga", ".ico"),
        *(".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw"),
    )
)
"""Pictures that cannot be read without more: in a folder they are reported, not passed over."""


def read_image(
    source: str | os.PathLike[str] | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Frame:
    """Read a picture: JPEG, PNG, WebP, TIFF, BMP, GIF or PNM, the first frame of animations.

    HEIC and AVIF are read where Pillow and its plug-in are installed (the extra ``heic``).

    Transparent parts become white, as on a page; 16 bits become 8; the kind is told by the
    content, never by the name.

    Args:
        source: Path, http(s) address, or the file's content.
        max_pixels: Larger pictures are refused before they are decoded.
        max_bytes: Larger files are refused before they are read.

    Returns:
        (H, W, 3) uint8 **BGR**, turned as the file's EXIF orientation asks.

    Raises:
        ImageError: The file is missing, beyond the limits, or not a picture that can be read. A
            note says which one.
    """
    try:
        return _read(source, max_pixels, max_bytes)
    except ImageError as error:
        if not isinstance(source, bytes):
            error.add_note(f"Picture: {without_password(str(source))}")
        raise


def _read(source: str | os.PathLike[str] | bytes, max_pixels: int, max_bytes: int) -> Frame:
    if isinstance(source, bytes):
        data = source
    elif is_address(source):
        data = fetch(str(source), max_bytes)
    else:
        data = _read_file(Path(source), max_bytes)
    if len(data) > max_bytes:
        raise ImageError(f"Expected a file of at most {max_bytes} bytes, received a larger one")
    kind = kind_of(data)
    if kind in PILLOW_KINDS:
        image, orientation = pil_to_array(open_with_pillow(data, kind, max_pixels))
        return turn(to_bgr(image), orientation)
    try:
        size = SIZES[kind](data)
    except (ValueError, IndexError) as error:
        raise ImageError(f"Expected a whole {kind} picture, received a damaged header") from error
    check_pixels(size.width, size.height, max_pixels)
    if re.match(rb"P[1-3]", data):
        data += b"\n"  # OpenCV takes a last number that nothing follows for one cut short.
    # Before 4.11 OpenCV hands out old memory for what a cut JPEG lacks.
    if kind == "JPEG" and OPENCV_VERSION < (4, 11) and data.rfind(_SCAN) > data.rfind(_END):
        raise ImageError(_damaged(kind))
    # OpenCV turns colour JPEGs itself; for the others it would drop the transparency.
    flag = cv2.IMREAD_COLOR if kind == "JPEG" else cv2.IMREAD_UNCHANGED
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        raise ImageError(_damaged(kind)) from error
    if decoded is None:
        raise ImageError(_damaged(kind))
    if kind == "PNM":
        decoded = full_range(decoded, data)
    return turn(to_bgr(decoded, kind), exif_orientation(kind, data))


def read_stdin(max_bytes: int = MAX_BYTES) -> bytes:
    """Read a picture's bytes from standard input, one more than the limit at most.

    Raises:
        ImageError: It is closed.
    """
    if sys.stdin is None:
        raise ImageError("Expected a picture from standard input, which is closed")
    return sys.stdin.buffer.read(max_bytes + 1)


def _read_file(path: Path, max_bytes: int) -> bytes:
    try:
        return read_at_most(path, max_bytes)
    except FileNotFoundError as error:
        advice = "; give the path alone" if re.match(r"file:", str(path)) else ""
        raise ImageError(f"Expected a picture, found no such file{advice}") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError(f"Expected a picture, received what cannot be read: {reason}") from error


def _damaged(kind: str) -> str:
    hint = ""
    if kind in ("GIF", "WebP") and OPENCV_VERSION < (4, 11):
        hint = "; OpenCV reads GIF and animated WebP from 4.11 on"
    return f"Expected a whole {kind} picture, received one that is damaged or cut short{hint}"


def to_bgr(image: NDArray[Any], kind: str = "") -> Frame:
    """Bring (H, W), (H, W, 3) BGR or (H, W, 4) BGRA of 8 or 16 bits to (H, W, 3) uint8 BGR.

    Args:
        image: Left as it is, unless it is BGRA.
        kind: As `kind_of` names it: what libtiff has decoded differs.

    Raises:
        ImageError: It has another depth or another number of channels.
    """
    # libtiff multiplies 8-bit colours by their opacity, whatever the file holds.
    multiplied = kind == "TIFF" and image.dtype == np.uint8
    if image.dtype == np.uint16:
        # A PNM's header has said what its white is.
        image = _to_8_bits(image, _DEPTHS if kind != "PNM" else (16,))
    elif image.dtype != np.uint8:
        raise ImageError(
            f"Expected 8 or 16 bits a channel, received {image.dtype}; save it as PNG first"
        )
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    elif image.shape[2] == 4:
        image = _over_white(image, multiplied=multiplied)
    elif image.shape[2] != 3:
        raise ImageError(f"Expected 1, 3 or 4 channels, received {image.shape[2]}")
    return np.ascontiguousarray(image, np.uint8)


_DEPTHS = (8, 10, 12, 14, 16)
"""Bits of the levels that cameras write into 16: at the lower end, so that all looks black."""


def _to_8_bits(image: NDArray[np.uint16], depths: Sequence[int]) -> Frame:
    """Scale levels by the least of the depths that holds them all, opacity by its own."""
    scaled = np.empty(image.shape, np.uint8)
    parts = [slice(0, 3), slice(3, 4)] if image.ndim == 3 else [slice(None)]
    for part in parts:
        levels = image[..., part] if image.ndim == 3 else image
        if not levels.size:
            continue
        most = int(levels.max())
        depth = next(bits for bits in depths if most < 2**bits)
        small = cv2.convertScaleAbs(levels, alpha=255 / (2**depth - 1))
        scaled[..., part] = small.reshape(levels.shape)
    return scaled


def _over_white(image_bgra: Frame, *, multiplied: bool) -> Frame:
    image = image_bgra[:, :, :3]
    # By strips of rows, since the products need several times the picture's memory.
    for start in range(0, len(image), 64):
        strip = image[start : start + 64]
        cover = image_bgra[start : start + 64, :, 3:].astype(np.uint16)
        shade = strip if multiplied else (strip * cover + 127) // 255
        strip[:] = np.minimum(shade + (255 - cover), 255)
    return image


def turn(image: Frame, orientation: int) -> Frame:
    """Turn and mirror a picture as an EXIF orientation of 1 to 8 asks."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
