import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_edge.errors import ImageError
from fer_edge.image.read import read_image

HEIGHT, WIDTH = 24, 40


@pytest.fixture
def picture():
    """Four flat quarters of different colours, so that turns and channel swaps show."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[: HEIGHT // 2, : WIDTH // 2] = (200, 30, 40)
    rgb[: HEIGHT // 2, WIDTH // 2 :] = (30, 190, 60)
    rgb[HEIGHT // 2 :, : WIDTH // 2] = (40, 50, 210)
    rgb[HEIGHT // 2 :, WIDTH // 2 :] = (220, 220, 220)
    return Image.fromarray(rgb)


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def bgr(picture):
    return np.asarray(picture.convert("RGB"))[:, :, ::-1]


def difference(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other.astype(int)).mean()


def exif(orientation):
    entries = Image.Exif()
    entries[0x0112] = orientation
    return entries


TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_turns_as_exif_asks(picture, kind, orientation):
    data = saved(picture, kind, exif=exif(orientation))
    turn = TURNS[orientation]
    expected = picture if turn is None else picture.transpose(turn)
    assert difference(read_image(data), bgr(expected)) < 12


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_turns_transparent_pictures_too(picture, kind):
    picture.putalpha(255)
    picture.putpixel((0, 0), (0, 0, 0, 0))
    data = saved(picture, kind, exif=exif(6), **({"lossless": True} if kind == "WEBP" else {}))
    frame = read_image(data)
    assert frame.shape == (WIDTH, HEIGHT, 3)
    assert frame[0, -1].tolist() == [255, 255, 255]
    assert frame[0, 0].tolist() == [210, 50, 40]


@pytest.mark.parametrize(
    ("mode", "kind", "most"),
    [
        ("RGB", "PNG", 0),
        ("RGB", "BMP", 0),
        ("RGB", "TIFF", 0),
        ("RGB", "PPM", 0),
        ("RGB", "JPEG", 12),
        ("RGB", "WEBP", 12),
        ("L", "PNG", 0),
        ("L", "JPEG", 2),
        ("L", "TIFF", 0),
        ("L", "PPM", 0),
        ("1", "PNG", 0),
        ("1", "TIFF", 0),
        ("P", "PNG", 0),
        ("P", "GIF", 0),
        ("P", "BMP", 0),
        ("P", "TIFF", 0),
        ("CMYK", "JPEG", 12),
        ("CMYK", "TIFF", 0),
        ("LA", "PNG", 0),
    ],
)
def test_reads_every_common_kind(picture, mode, kind, most):
    if mode == "P":
        converted = picture.quantize(8)
    elif mode == "1":
        converted = picture.convert("1", dither=Image.Dither.NONE)
    else:
        converted = picture.convert(mode)
    frame = read_image(saved(converted, kind))
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous
    assert difference(frame, bgr(converted)) <= most


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_parts_become_white(picture, kind):
    cover = np.full((HEIGHT, WIDTH), 255, np.uint8)
    cover[:, :10] = 0
    cover[:, 10:20] = 128
    picture.putalpha(Image.fromarray(cover))
    frame = read_image(saved(picture, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert frame[0, 0].tolist() == [255, 255, 255]
    assert np.abs(frame[0, 15].astype(int) - [147, 142, 227]).max() <= 2
    assert frame[0, 25].tolist() == [60, 190, 30]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_become_eight(suffix, channels):
    levels = np.random.default_rng(0).integers(0, 256, (8, 9, channels), np.uint16)
    if channels == 4:
        levels[:, :, 3] = 255
    _, data = cv2.imencode(suffix, levels * 257)
    frame = read_image(data.tobytes())
    assert np.array_equal(frame, np.broadcast_to(levels[:, :, :3], (8, 9, 3)))


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_fewer_bits_in_sixteen_are_not_black(suffix, bits):
    levels = np.linspace(0, 2**bits - 1, 8 * 9 * 3).round().astype(np.uint16).reshape(8, 9, 3)
    _, data = cv2.imencode(suffix, levels)
    expected = levels * (255 / (2**bits - 1))
    assert np.abs(read_image(data.tobytes()) - expected).max() <= 0.51
    cover = np.full((8, 9, 1), 65535, np.uint16)
    _, data = cv2.imencode(suffix, np.concatenate([levels, cover], axis=2))
    assert np.abs(read_image(data.tobytes()) - expected).max() <= 1.01


@pytest.mark.parametrize("white", [1, 47, 255, 300, 4095, 65535])
@pytest.mark.parametrize("form", [b"P2", b"P3", b"P5", b"P6"])
def test_pnm_levels_go_up_to_what_the_header_says(form, white):
    levels = np.linspace(0, white, 12).round().astype(int)
    head = form + b" 4 %d # so much is white\n%d\n" % (1 if form in b"P3P6" else 3, white)
    if form in b"P2P3":
        data = b" ".join(b"%d" % level for level in levels)
    else:
        data = levels.astype(">u2" if white > 255 else np.uint8).tobytes()
    image = read_image(head + data)
    found = image[..., ::-1].ravel() if form in b"P3P6" else image[..., 0].ravel()
    assert np.abs(found - levels * 255 / white).max() <= 1


def tiff_head(*entries):
    parts = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(parts)) + b"".join(parts) + bytes(4)


@pytest.mark.parametrize(
    "data",
    [
        tiff_head((256, 8), (257, 8), (50706, 0x104)),
        tiff_head((254, 1), (256, 8), (257, 8), (330, 64)),
        b"II*\0\x10\0\0\0CR\x02\0" + bytes(4) + struct.pack("<HHHII", 1, 256, 4, 1, 8),
        b"IIRO\x08\0\0\0",
        b"IIU\0\x08\0\0\0",
        b"FUJIFILMCCD-RAW 0201",
    ],
)
def test_raw_photographs_are_refused_not_their_previews_read(data):
    with pytest.raises(ImageError, match="raw photograph"):
        read_image(data)


def test_floating_point_pictures_are_refused_with_advice(picture):
    with pytest.raises(ImageError, match="8 or 16 bits a channel, received float32"):
        read_image(saved(picture.convert("F"), "TIFF"))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_give_their_first_frame(picture, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    frames = [picture, picture.transpose(Image.Transpose.ROTATE_180)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert difference(read_image(data), bgr(picture)) < 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_cut_files_are_refused(picture, kind, share):
    data = saved(picture.resize((400, 240)), kind)
    with pytest.raises(ImageError, match="Expected"):
        read_image(data[: int(share * len(data))])


@pytest.mark.parametrize("share", [0.3, 0.9, 1])
def test_cut_jpegs_are_refused_where_opencv_fills_them(picture, share, monkeypatch):
    filled = np.zeros((240, 400, 3), np.uint8)
    monkeypatch.setattr("fer_edge.image.read.OPENCV_VERSION", (4, 10))
    monkeypatch.setattr("fer_edge.image.read.cv2.imdecode", lambda *_: filled)
    data = saved(picture.resize((400, 240)), "JPEG", progressive=True)
    if share == 1:
        assert read_image(data + b"what some cameras write behind it").shape == (240, 400, 3)
        return
    with pytest.raises(ImageError, match="cut short"):
        read_image(data[: int(share * len(data))])


def test_an_old_opencv_is_told_where_it_is_to_blame(monkeypatch):
    broken = saved(Image.new("RGB", (9, 9)), "GIF")[:40]
    monkeypatch.setattr("fer_edge.image.read.OPENCV_VERSION", (4, 11))
    with pytest.raises(ImageError, match=r"cut short$"):
        read_image(broken)
    monkeypatch.setattr("fer_edge.image.read.OPENCV_VERSION", (4, 10))
    with pytest.raises(ImageError, match=r"animated WebP from 4\.11 on"):
        read_image(broken)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X        ", "AppleDouble"),
        (b"\0\0\0\x20ftypisom", "a video; use fer-edge video"),
        (b"\x1aE\xdf\xa3webm", "a video"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
        (b'<?xml version="1.0"?>\n<svg xmlns="">', "SVG"),
        (b"<svg>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"<!doctype html><p>404", "web page"),
        (b"PK\x03\x04", "archive"),
        (b"just text", "of another kind"),
        (b"\xff\xd8\xff", "damaged header"),
    ],
)
def test_other_files_are_named(data, reason):
    with pytest.raises(ImageError, match=reason):
        read_image(data)


def huge_headers():
    """Each declares 60000 x 50000 pixels in a few bytes."""
    width, height = 60000, 50000
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    yield (
        "png",
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)),
    )
    yield (
        "jpeg",
        b"\xff\xd8\xff\xe0\0\x04\0\0\xff\xc0\0\x0b\x08"
        + struct.pack(">HH", height, width)
        + b"\x01\x01\x11\0",
    )
    yield "gif", b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0"
    yield "bmp", b"BM" + bytes(12) + struct.pack("<IiiHH", 40, width, -height, 1, 24)
    yield (
        "webp",
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0"
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little"),
    )
    yield "ppm", b"P6\n# a comment\n60000 50000\n255\n"
    entries = struct.pack("<HHHIIHHII", 2, 256, 4, 1, width, 257, 4, 1, height)
    yield "tiff", b"II*\0\x08\0\0\0" + entries
    big = struct.pack(">QHHQQHHQQ", 2, 256, 16, 1, width, 257, 16, 1, height)
    yield "bigtiff", b"MM\0\x2b\0\x08\0\0" + struct.pack(">Q", 16) + big


@pytest.mark.parametrize(("kind", "data"), list(huge_headers()), ids=lambda value: str(value)[:8])
def test_the_pixel_limit_holds_before_decoding(kind, data, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="60000 x 50000; raise `max_pixels`"):
        read_image(data)


def test_limits_can_be_set(picture):
    data = saved(picture, "PNG")
    assert read_image(data, max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(ImageError, match="at most 100 pixels, received 40 x 24"):
        read_image(data, max_pixels=100)
    with pytest.raises(ImageError, match="at most 10 bytes"):
        read_image(data, max_bytes=10)


def test_headers_without_end_are_given_up_soon():
    with pytest.raises(ImageError, match="damaged header"):
        read_image(b"\xff\xd8" + b"\xff\xfe\0\x02" * 2_000_000)


def test_reads_by_path_whatever_the_name(tmp_path, picture):
    path = tmp_path / "=é 笑顔.txt"
    path.write_bytes(saved(picture, "PNG"))
    assert np.array_equal(read_image(path), bgr(picture))
    assert np.array_equal(read_image(str(path)), bgr(picture))


def test_an_error_notes_which_picture_it_is_of(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError) as told:
        read_image(tmp_path / "empty.png")
    assert told.value.__notes__ == [f"Picture: {tmp_path / 'empty.png'}"]
    with pytest.raises(ImageError) as told:
        read_image("http://me:secret@127.0.0.1:1/a.jpg")
    assert told.value.__notes__ == ["Picture: http://127.0.0.1:1/a.jpg"]
    with pytest.raises(ImageError) as told:
        read_image(b"")
    assert not hasattr(told.value, "__notes__")


def test_unreadable_paths_are_errors(tmp_path):
    with pytest.raises(ImageError, match=r"no such file(?!;)"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="no such file; give the path alone"):
        read_image("file:///tmp/missing.png")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="too long"):
        read_image(tmp_path / ("a" * 300))
