"""Whatever a program holds a picture in, to a frame; or what to pass instead."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.image.pillow import pil_to_array
from fer_edge.image.read import Frame, read_image, to_bgr, turn

_WANTED = (
    "a path, an http(s) address, a file's bytes, a PIL image, or an array of (H, W), (H, W, 3) or "
    "(H, W, 4) uint8"
)


def to_frame(picture: Any, *, rgb: bool = False) -> Frame:
    """Bring a picture, in whatever form, to a frame.

    Args:
        picture: A path or http(s) address (`read_image`), a file's content as bytes, a PIL image,
            or an array of (H, W) or (H, W, 1) grey, (H, W, 3) BGR or (H, W, 4) BGRA, uint8. What
            is transparent becomes white.
        rgb: Whether arrays are RGB or RGBA instead; the other forms say themselves what they are.

    Returns:
        (H, W, 3) uint8 BGR, or (H, W) or (H, W, 1) grey where the array is. PIL images are turned
        as their EXIF orientation asks.

    Raises:
        ImageError: The picture cannot be read.
        ValueError: It is none of these; the message says what to pass.
    """
    if isinstance(picture, np.ndarray):
        return _from_array(picture, rgb)
    if isinstance(picture, (str, os.PathLike)):
        return read_image(picture)
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return read_image(bytes(picture))
    # By name: whoever holds a PIL image has loaded Pillow, and nobody else needs it.
    if any(
        (kind.__module__, kind.__name__) == ("PIL.Image", "Image") for kind in type(picture).mro()
    ):
        image, orientation = pil_to_array(picture)
        return turn(to_bgr(image), orientation)
    raise ValueError(f"Expected {_WANTED}, received {_describe(picture)}")


def _describe(picture: Any) -> str:
    if picture is None:
        return (
            "None, which cv2.imread gives for files that it cannot read; pass the path itself to "
            "learn why"
        )
    name = type(picture).__name__
    if hasattr(picture, "__array__"):
        return f"{name}; pass a numpy array, such as numpy.asarray(picture)"
    if isinstance(picture, (list, tuple)):
        return f"{name}; pass one picture, or give several to classify_many"
    if hasattr(picture, "read"):
        return f"{name}; pass its content, picture.read()"
    return name


def _from_array(image: NDArray[Any], rgb: bool) -> Frame:
    if image.dtype != np.uint8:
        raise ValueError(f"Expected uint8 levels 0-255, received {_other_levels(image)}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        advice = ""
        if image.ndim == 3 and image.shape[0] in (1, 3, 4):
            advice = "; pass image.transpose(1, 2, 0)"
        elif image.ndim == 4:
            advice = "; pass one picture, or give several to classify_many"
        raise ValueError(
            f"Expected an array of (H, W), (H, W, 3) or (H, W, 4), received {image.shape}{advice}"
        )
    if not image.size:
        raise ValueError(f"Expected a picture with pixels, received an array of {image.shape}")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if rgb and channels > 1:
        image = image[:, :, [2, 1, 0, 3][:channels]]
    return to_bgr(image.copy()) if channels == 4 else np.ascontiguousarray(image)


def _other_levels(image: NDArray[Any]) -> str:
    ways = {
        "f": "(image * 255).astype('uint8') for levels 0-1, image.astype('uint8') for 0-255",
        "b": "image.astype('uint8') * 255",
        "i": "image.astype('uint8') if its levels are 0-255",
        "u": "(image // 257).astype('uint8') if its levels are 0-65535",
    }
    way = ways.get(image.dtype.kind)
    return f"{image.dtype}; pass {way}" if way else f"an array of {image.dtype}"
