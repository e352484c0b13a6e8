import io

import numpy as np
import pytest
from PIL import Image

from fer_edge.errors import ImageError
from fer_edge.image.frames import to_frame

BGR = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
RGB = np.ascontiguousarray(BGR[:, :, ::-1])


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def with_cover(image, cover=255):
    return np.concatenate([image, np.full((20, 30, 1), cover, np.uint8)], axis=2)


@pytest.mark.parametrize(
    "picture",
    [
        BGR,
        RGB[:, :, ::-1],
        with_cover(BGR),
        np.asfortranarray(BGR),
        png(RGB),
        bytearray(png(RGB)),
        memoryview(png(RGB)),
        Image.fromarray(RGB),
        Image.fromarray(with_cover(RGB)),
        Image.open(io.BytesIO(png(RGB))),
    ],
    ids=lambda picture: type(picture).__name__,
)
def test_takes_what_a_program_holds(picture):
    frame = to_frame(picture)
    assert frame.flags.c_contiguous
    assert np.array_equal(frame, BGR)


def test_takes_paths(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(RGB))
    assert np.array_equal(to_frame(path), BGR)
    assert np.array_equal(to_frame(str(path)), BGR)


def test_rgb_is_for_arrays():
    assert np.array_equal(to_frame(RGB, rgb=True), BGR)
    assert np.array_equal(to_frame(with_cover(RGB), rgb=True), BGR)
    assert np.array_equal(to_frame(Image.fromarray(RGB), rgb=True), BGR)


def test_transparent_parts_become_white_and_the_array_stays():
    clear = with_cover(BGR, cover=0)
    before = clear.copy()
    assert (to_frame(clear) == 255).all()
    assert (to_frame(Image.fromarray(clear)) == 255).all()
    assert np.array_equal(clear, before)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1)])
def test_grey_stays_grey(shape):
    gray = BGR[:, :, :1].reshape(shape)
    assert np.array_equal(to_frame(gray), gray)
    assert np.array_equal(to_frame(gray, rgb=True), gray)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "YCbCr", "HSV", "PA", "RGBX"])
def test_takes_pil_images_of_every_mode(mode):
    picture = Image.fromarray(RGB).convert(mode if mode != "PA" else "P")
    picture = picture.convert(mode)
    frame = to_frame(picture)
    expected = np.asarray(picture.convert("RGB"))[:, :, ::-1]
    assert np.abs(frame.astype(int) - expected).max() <= 1


def test_pil_images_of_more_bits_and_turned_ones():
    levels = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    expected = np.repeat((levels / 257).round().astype(np.uint8)[:, :, None], 3, axis=2)
    assert np.array_equal(to_frame(Image.fromarray(levels)), expected)
    assert np.array_equal(to_frame(Image.fromarray(levels.astype(np.int32))), expected)
    with pytest.raises(ImageError, match="8 or 16 bits"):
        to_frame(Image.fromarray(levels.astype(np.float32)))
    turned = Image.fromarray(RGB)
    turned.getexif()[0x0112] = 6
    assert np.array_equal(to_frame(turned), np.rot90(BGR, -1))


def test_pil_images_of_damaged_files_are_errors():
    with pytest.raises(ImageError, match="Pillow cannot read"):
        to_frame(Image.open(io.BytesIO(png(RGB)[:500])))


@pytest.mark.parametrize(
    ("picture", "advice"),
    [
        (None, "received None, which cv2.imread gives for files that it cannot read"),
        (BGR / 255, r"received float64; pass \(image \* 255\)"),
        (BGR.astype(np.float32), "received float32; pass"),
        (BGR.astype(np.float16), "received float16; pass"),
        (BGR.astype(np.uint16), "received uint16; pass"),
        (BGR.astype(np.int64), "received int64; pass image.astype"),
        (BGR > 99, "received bool; pass image.astype"),
        (np.array(["a"]), "received an array of <U1"),
        (np.array(None), "received an array of object"),
        (BGR.transpose(2, 0, 1), r"pass image.transpose\(1, 2, 0\)"),
        (BGR[None], "classify_many"),
        (BGR[:, :, :2], r"received \(20, 30, 2\)"),
        (BGR[0, 0], r"received \(3,\)"),
        (BGR[:0], "with pixels"),
        ([BGR], "received list; pass one picture"),
        (BGR.tolist(), "received list"),
        (7, "received int"),
        (io.BytesIO(b""), r"pass its content, picture.read\(\)"),
        ({"image": BGR}, "received dict"),
    ],
    ids=lambda value: str(value)[:24] if isinstance(value, str) else type(value).__name__,
)
def test_refuses_what_is_no_picture_and_says_what_to_pass(picture, advice):
    with pytest.raises(ValueError, match=advice):
        to_frame(picture)


@pytest.mark.parametrize("picture", ["nowhere.jpg", b"", b"no picture", "", "a\0b"])
def test_what_cannot_be_read_is_an_image_error(picture):
    with pytest.raises(ImageError, match="Expected"):
        to_frame(picture)
