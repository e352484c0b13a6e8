"""The rows of a csv that somebody else made, plain or gzip."""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from fer_edge.errors import DataError

LONGEST_LINE = 8 * 48 * 48
"""Characters; eight for each pixel of FER-2013's images."""


def csv_rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a ``.csv`` or ``.csv.gz``, the header first; an empty line is ``[]``.

    Raises:
        DataError: It is no such file, or a line is longer than `LONGEST_LINE`.
        OSError: It cannot be read.
    """
    opener: Callable[..., IO[str]] = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(_short_lines(file, path))
    except (UnicodeDecodeError, csv.Error, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a readable csv: {error}") from error


def _short_lines(file: IO[str], path: Path) -> Iterator[str]:
    # A gzip bomb may be one endless line; no honest row is longer than this.
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise DataError(
                f"{path} has a line of {LONGEST_LINE} characters or more; is it the right file?"
            )
        yield line
