"""Images in memory, grey (N, H, W) or RGB (N, H, W, 3) uint8: how they are made and handed on."""

import numpy as np
from numpy.typing import NDArray

from fer_edge.contract import IMAGE_SIZE
from fer_edge.image.read import Frame
from fer_edge.inference.preprocess import prepare, resize, to_gray
from fer_train.data.form import Form

Images = NDArray[np.uint8]


def make_image(frame_bgr: Frame, form: Form) -> Images:
    """Make an image of a picture, as the runtime does of a face that is the whole picture.

    Args:
        frame_bgr: (H, W, 3) uint8 BGR, or (H, W) grey.
        form: Size and colours of the image.

    Returns:
        (S, S) uint8 grey or (S, S, 3) RGB.
    """
    levels = prepare(frame_bgr, [None], form.spec)
    return np.asarray(levels, np.uint8).reshape(form.image_shape)


def with_channels(images: Images) -> Images:
    """Return images as models see them: (N, H, W, 1 or 3); those that are so already as they are.

    Args:
        images: uint8 (N, H, W) or (N, H, W, 1) grey, or (N, H, W, 3) RGB.
    """
    return images[..., None] if images.ndim == 3 else images


def as_frames(images: Images) -> Images:
    """Return images as the runtime takes pictures: grey as it is, colours in the order BGR."""
    return images[..., ::-1] if images.shape[3:] == (3,) else images


def grey_thumbnails(images: Images) -> Images:
    """Return images as small and grey as FER-2013's, to be compared: (N, 48, 48) uint8.

    Args:
        images: uint8 (N, H, W) grey or (N, H, W, 3) RGB; those of 48 x 48 in grey are returned as
            they are.
    """
    size = (IMAGE_SIZE, IMAGE_SIZE)
    if images.shape[1:] == size:
        return images
    small = np.empty((len(images), *size), np.uint8)
    for thumbnail, frame in zip(small, as_frames(images), strict=True):
        thumbnail[:] = resize(to_gray(frame), size)
    return small
