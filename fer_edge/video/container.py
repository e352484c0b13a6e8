"""What a video file's container says of itself that OpenCV does not tell.

Whether bytes are missing is read from the lengths that containers write down, as their
specifications have it: ISO/IEC 14496-12 (MP4), RIFF (AVI), RFC 8794 (Matroska, WebM), ASF, FLV and
RFC 3533 (Ogg). How long picture and sound last tells nothing: sound may be longer, and edit lists
leave out what is there.
"""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"sidx", b"moof"}
_SOUND = (b"ID3", b"fLaC", b"OggS", b"RIFF", b"FORM", b"caff", b".snd", b"#!AMR", b"MThd", b"\x1aE")
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def missing_bytes(path: str | Path) -> int:
    """Return how many bytes a file's own container says should follow its end, at least; 0 if none.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        head = _read(file, 0, 16)
        for found, missing in _KINDS:
            if found(head):
                return max(0, missing(file, size))
    return 0


def clock_may_jump(path: str | Path) -> bool:
    """Return whether a file is of a kind whose clock may start anew: MPEG-TS, MPEG-PS or Ogg.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        head = _read(file, 0, 3 * 192)
    return head.startswith((b"\0\0\1\xba", b"OggS")) or any(
        len(head) > start + 2 * step and head[start : start + 2 * step + 1 : step] == b"GGG"
        for start, step in ((0, 188), (4, 192))
    )


def may_be_sound(path: str | Path) -> bool:
    """Return whether a file begins as those do that hold sound, with a picture or without.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        head = _read(file, 0, 16)
    mpeg = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return mpeg or head.startswith((*_SOUND, _ASF)) or head[4:8] in _BOXES


def is_mp4(path: str | Path) -> bool:
    """Return whether a file begins as MP4 and QuickTime do.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as file:
        return file.read(8)[4:] in _BOXES


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _mp4(file: BinaryIO, size: int) -> int:
    place = 0
    while len(head := _read(file, place, 16)) >= 8:
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        # 0: to the end of the file. What is no box is not the container's.
        if length < 8 or not head[4:8].isascii():
            break
        place += length
    return place - size


def _riff(file: BinaryIO, size: int) -> int:
    place = 0
    while (head := _read(file, place, 12))[:4] == b"RIFF":
        length = int.from_bytes(head[4:8], "little")
        if length in (0, 0xFFFFFFFF):  # Not filled in: written to a pipe, or never finished.
            break
        place += 8 + length
    return place - size


def _matroska(file: BinaryIO, size: int) -> int:
    header, start = _vint(_read(file, 4, 8))
    place = 4 + start + (header or 0)
    if _read(file, place, 4) != b"\x18\x53\x80\x67":
        return 0
    length, start = _vint(_read(file, place + 4, 8))
    return 0 if length is None else place + 4 + start + length - size


def _vint(data: bytes) -> tuple[int | None, int]:
    """Return an EBML number, None for unknown, and the bytes that it takes."""
    count = 9 - data[0].bit_length() if data and data[0] else 8
    value = int.from_bytes(data[:count], "big") & ((1 << 7 * count) - 1)
    return (None if value == (1 << 7 * count) - 1 else value), count


def _asf(file: BinaryIO, size: int) -> int:
    data = _read(file, 0, 2**16)
    place = data.find(_ASF_FILE)
    if place < 0 or len(data) < place + 92:
        return 0
    (length,) = struct.unpack_from("<Q", data, place + 40)
    (flags,) = struct.unpack_from("<I", data, place + 88)
    return 0 if flags & 1 else length - size  # Bit 0: a broadcast, of which no length is known.


def _flv(file: BinaryIO, size: int) -> int:
    length = int.from_bytes(_read(file, max(0, size - 4), 4), "big")
    tag = _read(file, max(0, size - 4 - length), 4) if 11 <= length <= size - 13 else b""
    if tag and tag[0] & 0x1F in (8, 9, 18) and int.from_bytes(tag[1:], "big") + 11 == length:
        return 0
    data = _read(file, 0, 2**12)
    place = data.find(b"filesize\0")
    if place < 0 or len(data) < place + 17:
        return 0
    (promised,) = struct.unpack_from(">d", data, place + 9)
    return int(promised) - size if promised < 2**60 else 0


def _ogg(file: BinaryIO, size: int) -> int:
    start = max(0, size - 2**16)
    data = _read(file, start, 2**16)
    place = data.rfind(b"OggS")
    if place < 0:
        return 0
    lengths = data[place + 27 : place + 27 + data[place + 26]] if len(data) > place + 26 else b""
    whole = 27 + (data[place + 26] if len(data) > place + 26 else 0) + sum(lengths)
    return start + place + whole - size


_KINDS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], int]], ...] = (
    (lambda head: head[4:8] in _BOXES, _mp4),
    (lambda head: head[:4] == b"RIFF", _riff),
    (lambda head: head[:4] == b"\x1a\x45\xdf\xa3", _matroska),
    (lambda head: head == _ASF, _asf),
    (lambda head: head[:3] == b"FLV", _flv),
    (lambda head: head[:4] == b"OggS", _ogg),
)
