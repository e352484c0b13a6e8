"""Files that appear whole or not at all, and checks before anything is written."""

import io
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fer_edge.errors import OutputError


@contextmanager
def atomic_file(path: Path, *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears whole at the end, or not at all.

    Links are followed, and pipes and devices, which cannot be replaced, are written as they are.

    Args:
        path: The file; its folder is made where it is missing.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: The file is there already, or cannot be written.
    """
    refuse_existing(path, force=force)
    try:
        if _is_special(path):
            with path.open("wb") as file:
                yield file
            return
        # Not Path's own, which raises for links that lead to themselves.
        target = Path(os.path.realpath(path))
        temporary = target.parent / f".fer-edge-{secrets.token_hex(8)}.part"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
            temporary.replace(target)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}") from error


def _is_special(path: Path) -> bool:
    # Not Path's own tests: they raise for names that are too long and folders that are closed.
    return os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputError where a file would be replaced without ``--force``."""
    if os.path.isdir(path):  # noqa: PTH112
        raise OutputError(f"Expected a file to write, {path} is a folder")
    if os.path.isfile(path) and not force:  # noqa: PTH113
        raise OutputError(f"{path} is there already; give --force to replace it")


def refuse_same(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise OutputError where a file would be written that is read, or that is written twice."""
    taken = {file_identity(path): "what is read" for path in inputs}
    for path in outputs:
        identity = file_identity(path)
        if identity in taken and not _is_special(path):
            raise OutputError(f"{path} is {taken[identity]}; write to another file")
        taken[identity] = "written twice"


def file_identity(path: Path) -> tuple[int, int] | str:
    """Return what two names of one file have in common, whether it is there yet or not."""
    try:
        known = path.stat()
    except (OSError, ValueError):
        return os.path.realpath(path)
    return known.st_dev, known.st_ino


@contextmanager
def text_output(path: Path | None, *, force: bool = False) -> Iterator[IO[str]]:
    """Open a UTF-8 file that appears whole at the end, or standard output for None."""
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Terminals that lack a letter show its code instead of failing.
            sys.stdout.reconfigure(errors="backslashreplace")
        yield sys.stdout
        return
    with atomic_file(path, force=force) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        yield text
        text.detach()
