"""HEIC and AVIF, where Pillow and its plug-in are there; and the reason where they are not."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from fer_edge.errors import ImageError
from fer_edge.image.read import read_image

PORTRAIT = Path(__file__).parents[2] / "data/portrait.jpg"


@pytest.fixture(params=["HEIF", "AVIF"])
def save(request):
    """A function that gives the content of a file of that kind."""
    if request.param == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")

    def save(picture):
        file = io.BytesIO()
        # Each writes the orientation of what it is given in this way alone.
        more = {"exif": picture.getexif()} if request.param == "AVIF" else {}
        picture.save(file, request.param, **more)
        return file.getvalue()

    return save


def portrait():
    return Image.open(PORTRAIT).convert("RGB")


def difference(frame, rgb):
    return np.abs(frame.astype(int) - rgb[:, :, ::-1]).mean()


def test_reads_them(save):
    assert difference(read_image(save(portrait())), np.asarray(portrait())) < 4


def test_turns_them(save):
    picture = portrait()
    picture.getexif()[0x0112] = 6
    assert difference(read_image(save(picture)), np.rot90(np.asarray(portrait()), -1)) < 4


def test_transparent_parts_become_white(save):
    picture = portrait()
    picture.putalpha(0)
    assert read_image(save(picture)).min() > 250


def test_limits_hold_and_cut_files_are_refused(save):
    data = save(portrait())
    with pytest.raises(ImageError, match="at most 1000 pixels, received 512 x 512"):
        read_image(data, max_pixels=1000)
    for share in (0.02, 0.3, 0.9):
        with pytest.raises(ImageError, match="Expected a whole"):
            read_image(data[: int(share * len(data))])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
    ],
)
def test_without_pillow_the_line_to_install_is_said(data, kind, monkeypatch):
    for name in ("pillow_heif", "PIL.AvifImagePlugin"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImageError, match=rf"received {kind}.*pip install 'fer-edge\[heic\]'"):
        read_image(data)
