"""What was given on the command line, to pictures: files, folders, addresses, standard input."""

import os
import re
import stat
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from fer_edge._base.ahead import TICK_S
from fer_edge._base.bounded import read_at_most
from fer_edge._base.folders import files_below
from fer_edge.image.fetch import is_address, without_password
from fer_edge.image.read import FOREIGN_SUFFIXES, IMAGE_SUFFIXES, MAX_BYTES

_LOOK_S = 1.0
"""How often a folder that fills is looked through."""


@dataclass(frozen=True)
class Picture:
    """One input.

    Attributes:
        name: As the record shows it.
        source: Where it is read from: a path or an http(s) address; or its content.
        relative: Its place below the folder that was given; pictures made of it keep it.
        problem: Why there is nothing to read, or "".
    """

    name: str
    source: Path | str | bytes
    relative: Path
    problem: str = ""

    @property
    def identity(self) -> tuple[str, Path]:
        """What a picture that is given twice has in common with itself.

        Names alone do not tell: of those that are no text all wrong letters look alike.
        """
        return self.name, self.relative


def find_pictures(
    inputs: Sequence[str], read_stdin: Callable[[], bytes], leave_out: Collection[Path] = ()
) -> list[Picture]:
    """Turn files, addresses, folders and ``-`` into pictures, folders with all below them, sorted.

    Args:
        inputs: As given on the command line, at least one.
        read_stdin: Gives the content of standard input.
        leave_out: Folders that are passed over where they lie in one that was given, such as those
            that pictures are written to.
    """
    found = []
    for given in inputs:
        if given == "-":
            found.append(Picture("-", read_stdin(), Path("stdin.png")))
        elif is_address(given):
            shown = without_password(given)
            path = urllib.parse.unquote(urllib.parse.urlsplit(shown).path)
            place = re.sub(r"[^\w.-]+", "-", path.rsplit("/", 1)[-1]).lstrip(".") or "picture"
            found.append(Picture(shown, given, Path(place)))
        elif os.path.isdir(given):  # noqa: PTH112 - Path.is_dir raises for names that are too long
            below = list(_pictures_below(Path(given), leave_out))
            if not below:
                problem = "Expected a folder with pictures, received one without"
                below = [Picture(click.format_filename(given), Path(given), Path(), problem)]
            found += sorted(below, key=lambda picture: (bool(picture.problem), picture.source))
        else:
            name = click.format_filename(given)
            found.append(Picture(name, _content(Path(given)), Path(Path(given).name)))
    return found


def watch_folders(
    folders: Sequence[str], leave_out: Collection[Path], stopped: Callable[[], bool]
) -> Iterator[Picture | None]:
    """Yield the pictures of folders, and then those that come, once they are whole.

    Args:
        folders: The folders.
        leave_out: As for `find_pictures`.
        stopped: Whether to end.

    Yields:
        Each picture once its file no longer changes; None while there is none.
    """
    taken: set[Path | str | bytes] = set()
    seen: dict[Path | str | bytes, tuple[int, int]] = {}
    began_ns = time.time_ns()
    while not stopped():
        pictures = [
            picture for folder in folders for picture in _pictures_below(Path(folder), leave_out)
        ]
        for picture in sorted(pictures, key=lambda one: str(one.source)):
            if picture.source in taken:
                continue
            state = _state(picture.source)
            # What was there before has been written; what comes may still be.
            if picture.problem or state[1] < began_ns - 10**9 or seen.get(picture.source) == state:
                taken.add(picture.source)
                yield picture
            seen[picture.source] = state
        until_s = time.monotonic() + _LOOK_S
        while not stopped() and time.monotonic() < until_s:
            time.sleep(TICK_S)
            yield None


def _state(source: Path | str | bytes) -> tuple[int, int]:
    with suppress(OSError):
        known = Path(os.fsdecode(source)).stat()
        return known.st_size, known.st_mtime_ns
    return 0, 0


def _pictures_below(folder: Path, leave_out: Collection[Path]) -> Iterator[Picture]:
    for path, problem in files_below(folder, IMAGE_SUFFIXES | FOREIGN_SUFFIXES, leave_out):
        relative = Path() if problem else path.relative_to(folder)
        yield Picture(click.format_filename(path), path, relative, problem)


def _content(path: Path) -> Path | bytes:
    """Return what a pipe or device holds, since it can be read but once; files stay where they are.

    One that cannot be read stays a path too, so that its own record says why.
    """
    with suppress(OSError, ValueError):
        if not stat.S_ISREG(path.stat().st_mode):
            return read_at_most(path, MAX_BYTES)
    return path
