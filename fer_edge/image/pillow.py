"""Pillow's pictures: PIL images that a program holds, and the kinds that OpenCV cannot read."""

from importlib import import_module
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import ImageError
from fer_edge.image.headers import check_pixels

PILLOW_KINDS = {"HEIC": "pillow_heif", "AVIF": "PIL.AvifImagePlugin"}
"""Kinds that are read with Pillow where it is installed, and the module that reads them."""

_EXIF_ORIENTATION = 0x0112

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError)
"""What Pillow and its plug-ins raise for files that are damaged or cut short."""


def open_with_pillow(data: bytes, kind: str, max_pixels: int) -> Any:
    """Open a file's content as a PIL image; not yet decoded.

    Args:
        data: The content.
        kind: One of `PILLOW_KINDS`.
        max_pixels: Larger pictures are refused before they are decoded.

    Raises:
        ImageError: Pillow or its plug-in is not installed, or the file is damaged or too large.
    """
    try:
        plugin = import_module(PILLOW_KINDS[kind])
        pillow = import_module("PIL.Image")
    except ImportError as error:
        raise ImageError(
            f"Expected a picture that OpenCV reads, received {kind}, which needs Pillow; run: "
            "pip install 'fer-edge[heic]', or save it as JPEG first"
        ) from error
    if kind == "HEIC":
        plugin.register_heif_opener()
    try:
        picture = pillow.open(BytesIO(data))
    except _UNREADABLE as error:
        raise ImageError(
            f"Expected a whole {kind} picture, received one that Pillow {pillow.__version__} "
            "cannot read: it is damaged, or made in a way that needs a newer Pillow"
        ) from error
    width, height = picture.size
    check_pixels(width, height, max_pixels)
    return picture


def pil_to_array(picture: Any) -> tuple[NDArray[Any], int]:
    """Return a PIL image's levels and how they are to be turned.

    Returns:
        (H, W) grey, (H, W, 3) BGR or (H, W, 4) BGRA, and the EXIF orientation, 1 to 8.

    Raises:
        ImageError: The file behind the image is damaged.
    """
    try:
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
        if picture.mode in ("LA", "PA", "La", "RGBa") or "transparency" in picture.info:
            picture = picture.convert("RGBA")
        elif picture.mode not in ("RGB", "RGBA", "L", "F") and not picture.mode.startswith("I"):
            picture = picture.convert("RGB")
        image = np.array(picture)
    except _UNREADABLE as error:
        raise ImageError(f"Expected a whole picture, Pillow cannot read this: {error}") from error
    if image.dtype == np.int32 and image.size and image.min() >= 0 and image.max() < 2**16:
        image = image.astype(np.uint16)
    if not image.size:
        raise ImageError(f"Expected a picture with pixels, received {image.shape}")
    if image.ndim == 3:
        image = image[:, :, [2, 1, 0, 3][: image.shape[2]]]
    return image, orientation if orientation in range(1, 9) else 1
