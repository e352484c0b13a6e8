"""The kind, size and orientation of a picture, read from its bytes before it is decoded."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import ImageError

_MOST_PARTS = 10_000
"""Parts of a header that are looked at; hostile files have millions."""

_READ = "JPEG, PNG, WebP, TIFF, BMP, GIF or PNM"


class _Size(NamedTuple):
    width: int
    height: int


def kind_of(data: bytes) -> str:
    """Tell the kind of a picture by its first bytes; refuse all others by name."""
    for pattern, kind in _KINDS:
        if re.match(pattern, data, re.DOTALL):
            return kind
    for pattern, kind in _FOREIGN_KINDS:
        if re.match(pattern, data, re.DOTALL | re.IGNORECASE):
            raise ImageError(f"Expected {_READ}, received {kind}")
    raise ImageError(f"Expected {_READ}, received a file of another kind")


_RAW = "a raw photograph; save it as JPEG first"

_KINDS = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]", "TIFF"),
    (rb"GIF8[79]a", "GIF"),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
    (rb"P[1-6]\s", "PNM"),
    (rb"....ftyp(heic|heix|heim|heis|hevc|hevx|msf1)", "HEIC"),
    (rb"....ftypavi[fs]", "AVIF"),
    # The general brand of both: the brands that follow tell.
    (rb"....ftypmif1.{4}(.{4}){0,12}avif", "AVIF"),
    (rb"....ftypmif1", "HEIC"),
)

_FOREIGN_KINDS = (
    (rb"$", "an empty file"),
    (rb"\0\x05\x16[\0\x07]\0", "what macOS notes beside a file (AppleDouble), no picture"),
    (rb"....ftypcrx |IIR[OS]|MMOR|IIU\0|FUJIFILMCCD-RAW", _RAW),
    (rb"....ftyp|....moov", "a video; use fer-edge video"),
    (rb"\x1a\x45\xdf\xa3|RIFF....AVI |\0\0\x01[\xba\xb3]|FLV", "a video; use fer-edge video"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL; save it as JPEG first"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000; save it as JPEG first"),
    (rb"8BPS", "a Photoshop file; save it as JPEG first"),
    (rb"\x76\x2f\x31\x01", "OpenEXR; save it as PNG first"),
    (rb"%PDF", "a PDF; save its picture as PNG first"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive; unpack it first"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml.{0,1000}|<!--.{0,1000})?<(!DOCTYPE )?svg", "SVG, a drawing"),
    (rb"(\xef\xbb\xbf)?\s*<(!DOCTYPE )?html", "a web page"),
)


def check_pixels(width: int, height: int, most: int) -> None:
    """Refuse pictures that would take more memory than they may.

    Raises:
        ImageError: There are more than ``most`` pixels.
    """
    if width * height > most:
        raise ImageError(
            f"Expected at most {most} pixels, received {width} x {height}; "
            "raise `max_pixels` if you trust the file"
        )


def _jpeg_size(data: bytes) -> _Size:
    position = 2
    for _ in range(_MOST_PARTS):
        if data[position] != 0xFF:
            raise ValueError("no marker")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _Size(_big(data, position + 7, 2), _big(data, position + 5, 2))
        alone = marker == 0x01 or 0xD0 <= marker <= 0xD7
        position += 2 if alone else 2 + max(2, _big(data, position + 2, 2))
    raise ValueError("no size")


def _png_size(data: bytes) -> _Size:
    return _Size(_big(data, 16, 4), _big(data, 20, 4))


def _webp_size(data: bytes) -> _Size:
    form = data[12:16]
    if form == b"VP8X":
        return _Size(_little(data, 24, 3) + 1, _little(data, 27, 3) + 1)
    if form == b"VP8L":
        bits = _little(data, 21, 4)
        return _Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if form == b"VP8 ":
        return _Size(_little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF)
    raise ValueError("unknown form")


def _gif_size(data: bytes) -> _Size:
    return _Size(_little(data, 6, 2), _little(data, 8, 2))


def _bmp_size(data: bytes) -> _Size:
    if _little(data, 14, 4) == 12:
        return _Size(_little(data, 18, 2), _little(data, 20, 2))
    width, height = (
        int.from_bytes(_part(data, start, 4), "little", signed=True) for start in (18, 22)
    )
    # A negative height means that the rows go from top to bottom.
    return _Size(abs(width), abs(height))


_PNM_GAP = rb"(?:\s+|#[^\n]*\n)+"

_PNM_HEADER = rb"P[1-6]" + 2 * (_PNM_GAP + rb"(\d{1,9})")


def _pnm_size(data: bytes) -> _Size:
    header = re.match(_PNM_HEADER, data[:65536])
    if header is None:
        raise ValueError("no size")
    return _Size(int(header[1]), int(header[2]))


def full_range(image: NDArray[Any], data: bytes) -> NDArray[Any]:
    """Scale a PNM's levels, which go up to a number that its header names, to all 8 or 16 bits.

    OpenCV does it for 8 bits as text alone.
    """
    header = re.match(_PNM_HEADER + _PNM_GAP + rb"(\d{1,5})\s", data[:65536])
    most = int(np.iinfo(image.dtype).max)
    scaled = data[1:2] in b"14" or (data[1:2] in b"23" and most == 255)
    white = int(header[3]) if header and not scaled else most
    if white in (0, most):
        return image
    return np.minimum(image.astype(np.uint32) * most // white, most).astype(image.dtype)


_TIFF_KIND, _TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BEHIND, _TIFF_DNG = 254, 256, 257, 330, 50706

_TIFF_RAW = (_TIFF_KIND, _TIFF_BEHIND, _TIFF_DNG)


def _tiff_size(data: bytes) -> _Size:
    number = _little if data[:2] == b"II" else _big
    if number(data, 2, 2) == 43:  # BigTIFF
        directory, count_bytes, entry_bytes, value_at = number(data, 8, 8), 8, 20, 12
    else:
        directory, count_bytes, entry_bytes, value_at = number(data, 4, 4), 2, 12, 8
    found: dict[int, int] = {}
    for index in range(min(number(data, directory, count_bytes), _MOST_PARTS)):
        entry = directory + count_bytes + index * entry_bytes
        tag, form = number(data, entry, 2), number(data, entry + 2, 2)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT, *_TIFF_RAW) and tag not in found:
            found[tag] = number(data, entry + value_at, {1: 1, 3: 2, 4: 4, 16: 8}.get(form, 4))
    # Cameras keep a small preview in front, and what they took behind it.
    preview = found.get(_TIFF_KIND, 0) & 1 and _TIFF_BEHIND in found
    if preview or _TIFF_DNG in found or data[8:10] == b"CR":
        raise ImageError(f"Expected {_READ}, received {_RAW}")
    if _TIFF_WIDTH not in found or _TIFF_HEIGHT not in found:
        raise ValueError("no size")
    return _Size(found[_TIFF_WIDTH], found[_TIFF_HEIGHT])


SIZES: dict[str, Callable[[bytes], _Size]] = {
    "JPEG": _jpeg_size,
    "PNG": _png_size,
    "WebP": _webp_size,
    "TIFF": _tiff_size,
    "GIF": _gif_size,
    "BMP": _bmp_size,
    "PNM": _pnm_size,
}


def exif_orientation(kind: str, data: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, of a PNG or WebP; 1 where it is OpenCV's affair."""
    if kind == "PNG":
        start, tag, checksum = 8, b"eXIf", 4
    elif kind == "WebP":
        start, tag, checksum = 12, b"EXIF", 0
    else:
        return 1
    for _ in range(_MOST_PARTS):
        head = data[start : start + 8]
        if len(head) < 8:
            break
        if kind == "PNG":
            length, name = _big(head, 0, 4), head[4:]
        else:
            name, length = head[:4], _little(head, 4, 4)
            length += length & 1
        if name == tag:
            return _orientation(data[start + 8 : start + 8 + length])
        start += 8 + length + checksum
    return 1


def _orientation(exif: bytes) -> int:
    exif = exif.removeprefix(b"Exif\0\0")
    number = _little if exif[:2] == b"II" else _big
    try:
        directory = number(exif, 4, 4)
        for index in range(number(exif, directory, 2)):
            entry = directory + 2 + 12 * index
            if number(exif, entry, 2) == 0x0112:
                value = number(exif, entry + 8, 2)
                return value if 1 <= value <= 8 else 1
    except ValueError:
        return 1
    return 1


def _part(data: bytes, start: int, length: int) -> bytes:
    part = data[start : start + length]
    if len(part) != length:
        raise ValueError("cut short")
    return part


def _big(data: bytes, start: int, length: int) -> int:
    return int.from_bytes(_part(data, start, length), "big")


def _little(data: bytes, start: int, length: int) -> int:
    return int.from_bytes(_part(data, start, length), "little")
