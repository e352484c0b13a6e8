"""The rows of a csv that somebody else made, plain or gzip, and the images that they name."""

import csv
import gzip
import lzma
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import IO

from fer_edge.errors import DataError

UNPACKING_ERRORS = (
    *(EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError),
    # Of zipfile: a damaged archive, and a format that it does not know.
    *(zipfile.BadZipFile, NotImplementedError),
)
"""What the decompressors raise; bz2 has no error of its own but OSError."""

LONGEST_LINE = 8 * 48 * 48
"""Characters; eight for each pixel of FER-2013's images."""


def csv_rows(
    path: Path, text: Callable[[], AbstractContextManager[IO[str]]] | None = None
) -> Iterator[list[str]]:
    """Yield the rows of a ``.csv`` or ``.csv.gz``, the header first; an empty line is ``[]``.

    Args:
        path: The file.
        text: Opens the csv inside of it, where it is an archive.

    Raises:
        DataError: It is no such file, or a line is longer than `LONGEST_LINE`.
        OSError: It cannot be read.
    """
    opener: Callable[..., IO[str]] = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with text() if text else opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(_short_lines(file, path))
    except (UnicodeDecodeError, csv.Error, *UNPACKING_ERRORS) as error:
        raise DataError(f"{path} is not a readable csv: {error}") from error


def _short_lines(file: IO[str], path: Path) -> Iterator[str]:
    # A gzip bomb may be one endless line; no honest row is longer than this.
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise DataError(
                f"{path} has a line of {LONGEST_LINE} characters or more; is it the right file?"
            )
        yield line


class ImageNames:
    """Finds images by the ends of their paths, since a csv may count its folders otherwise.

    Args:
        names: Of all images, with ``/``.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Sort the images by their file names."""
        self._places: dict[str, list[tuple[int, Sequence[str]]]] = defaultdict(list)
        for place, name in enumerate(names):
            parts = PurePosixPath(name).parts
            self._places[parts[-1] if parts else ""].append((place, parts))

    def fitting(self, file: str) -> list[int]:
        """Return the places of the images whose path ends as ``file`` does, or the other way."""
        parts = PurePosixPath(file.strip().replace("\\", "/")).parts
        return [
            place
            for place, known in self._places.get(parts[-1] if parts else "", [])
            if _same_end(parts, known)
        ]


def _same_end(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether two paths are alike as far as the shorter one goes."""
    shorter = min(len(one), len(other))
    return one[-shorter:] == other[-shorter:]
