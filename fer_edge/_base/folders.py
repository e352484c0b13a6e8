"""Looking for files in folders."""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from fer_edge._base.files import file_identity

_LEFT_BEHIND = re.compile(r"\._.*|__MACOSX|\.fer-edge-.*")
"""What macOS leaves beside files on foreign disks and in archives, and what is being written."""


def files_below(
    folder: Path, suffixes: Collection[str], leave_out: Collection[Path] = ()
) -> Iterator[tuple[Path, str]]:
    """Yield the files in a folder and below, and the folders that cannot be looked into.

    Linked folders are followed, each folder but once: what was found by its own place is not found
    again by a link, and links in a circle come to an end.

    Args:
        folder: Where to look.
        suffixes: How their names end, in small letters.
        leave_out: Folders that are passed over.

    Yields:
        Each path, and "" or why it cannot be looked into.
    """
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
            yield place, f"Expected a folder that can be read: {error.strerror}"
            continue
        for entry in entries:
            if _LEFT_BEHIND.fullmatch(entry.name):
                continue
            path = Path(entry.path)
            if _is_folder(entry):
                (linked if entry.is_symlink() else waiting).append(path)
            elif path.suffix.lower() in suffixes:
                yield path, ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads to itself.
        return False


def free_name(wanted: Path, taken: set[Path]) -> Path:
    """Return a path, with a number where it is taken already, and note that it is taken."""
    name, number = wanted, 2
    while name in taken:
        name = wanted.with_stem(f"{wanted.stem}-{number}")
        number += 1
    taken.add(name)
    return name
