"""The csv inside of an archive, read in place: FER-2013 as its challenge hands it out.

That is ``fer2013.tar.gz`` with one csv in it, or a zip that holds csvs beside it.
"""

import contextlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from fer_edge.errors import DataError
from fer_train.data.csv_rows import csv_rows

TAR_SUFFIXES = (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")

OpenText = Callable[[], contextlib.AbstractContextManager[IO[str]]]


def csvs_of_tar(path: Path) -> dict[str, OpenText]:
    """Find the csvs of a tar archive.

    Returns:
        What opens each, by its name in the archive.

    Raises:
        DataError: It is no such archive.
        OSError: It cannot be read.
    """
    try:
        with tarfile.open(path) as archive:
            names = [member.name for member in archive if member.isfile()]
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{path} is not a whole tar archive: {error}") from error

    @contextlib.contextmanager
    def opened(name: str) -> Iterator[IO[str]]:
        try:
            with tarfile.open(path) as archive:
                member = archive.extractfile(name)
                if member is None:
                    raise DataError(f"{path}: {name} is no file")
                with member:
                    yield _text(member)
        except tarfile.TarError as error:
            raise DataError(f"{path} is not a whole tar archive: {error}") from error

    return {name: _of(opened, name) for name in names if _is_csv(name)}


def csvs_of_zip(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]
) -> dict[str, OpenText]:
    """Find the csvs of an open zip archive, as `csvs_of_tar` does."""

    @contextlib.contextmanager
    def opened(name: str) -> Iterator[IO[str]]:
        with archive.open(entries[name]) as member:
            yield _text(member)

    return {name: _of(opened, name) for name in entries if _is_csv(name)}


def choose_csv(
    path: Path, csvs: Mapping[str, OpenText], suits: Callable[[Sequence[str]], int]
) -> OpenText:
    """Choose the csv with the most of the columns that are wanted.

    Args:
        path: The archive, for messages.
        csvs: From `csvs_of_tar` or `csvs_of_zip`.
        suits: From a header to how well it suits, 0 if not at all.

    Returns:
        What opens it.

    Raises:
        DataError: None suits, or several do equally.
    """
    found = {name: suits(next(csv_rows(path, text), [])) for name, text in csvs.items()}
    best = max(found.values(), default=0)
    if not best:
        raise DataError(
            f"{path}: expected a csv with the columns emotion, pixels and perhaps Usage, received "
            f"{', '.join(csvs) or 'no csv'}"
        )
    chosen = [name for name, suit in found.items() if suit == best]
    if len(chosen) > 1:
        raise DataError(
            f"{path}: expected one csv of images, received {', '.join(chosen)}; unpack one of them"
        )
    return csvs[chosen[0]]


def _is_csv(name: str) -> bool:
    file = PurePosixPath(name)
    clutter = any(part.startswith(".") or part == "__MACOSX" for part in file.parts)
    return file.suffix.lower() == ".csv" and not clutter


def _of(opened: Callable[[str], contextlib.AbstractContextManager[IO[str]]], name: str) -> OpenText:
    return lambda: opened(name)


def _text(member: IO[bytes]) -> IO[str]:
    return io.TextIOWrapper(member, encoding="utf-8-sig", newline="")
