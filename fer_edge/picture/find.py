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
from fer_edge._base.files import file_identity
from fer_edge.image.fetch import is_address, without_password
from fer_edge.image.read import FOREIGN_SUFFIXES, IMAGE_SUFFIXES, MAX_BYTES

_LOOK_S = 1.0
"""How often a folder that fills is looked through."""

_NOT_PICTURES = re.compile(r"\._.*|__MACOSX")
"""What macOS leaves beside pictures on foreign disks and in archives."""


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
    """Yield the pictures in a folder and below, and the folders that cannot be looked into.

    Linked folders are followed, each folder but once: what was found by its own place is not found
    again by a link, and links in a circle come to an end.
    """
    suffixes = IMAGE_SUFFIXES | FOREIGN_SUFFIXES
    done = {file_identity(folder), *map(file_identity, leave_out)}
    waiting, linked = [folder], list[Path]()
    while waiting or linked:
        # Links come last, so that they never stand for what lies in the folder itself.
        place = waiting.pop() if waiting else linked.pop(0)
        identity = file_identity(place)
        if place != folder and identity in done:
            continue
        done.add(identity)
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            problem = f"Expected a folder that can be read: {error.strerror}"
            yield Picture(click.format_filename(place), place, Path(), problem)
            continue
        for entry in entries:
            if _NOT_PICTURES.fullmatch(entry.name):
                continue
            path = Path(entry.path)
            if _is_folder(entry):
                (linked if entry.is_symlink() else waiting).append(path)
            elif path.suffix.lower() in suffixes:
                yield Picture(click.format_filename(path), path, path.relative_to(folder))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads to itself.
        return False


def _content(path: Path) -> Path | bytes:
    """Return what a pipe or device holds, since it can be read but once; files stay where they are.

    One that cannot be read stays a path too, so that its own record says why.
    """
    with suppress(OSError, ValueError):
        if not stat.S_ISREG(path.stat().st_mode):
            return read_at_most(path, MAX_BYTES)
    return path
