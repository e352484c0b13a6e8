"""Files that appear whole or not at all, and checks before anything is written."""

import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from io import FileIO
from pathlib import Path
from typing import IO, Any, Protocol, Self, cast

from fer_edge.errors import OutputError


@contextmanager
def atomic_file(path: Path, *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears whole at the end, or not at all.

    Links are followed, and pipes and devices, which cannot be replaced, are written as they are.

    Args:
        path: The file; its folder is made where it is missing.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: The file is there already, is being written, or cannot be written.
    """
    try:
        if is_special(path):
            refuse_existing(path, force=force)
            with path.open("wb") as file:
                yield file
            return
        with atomic_path(path, force=force) as temporary, temporary.open("r+b") as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}") from error


@contextmanager
def atomic_path(path: Path, *, force: bool = False, suffix: str = "") -> Iterator[Path]:
    """Make an empty file, for those who write by name, that takes its place at the end.

    It does not where the block raises, or deletes the file. Until then no other run may write
    ``path``, unless it is forced to.

    Args:
        path: The file; its folder is made where it is missing, and links are followed.
        force: Whether an existing file may be replaced.
        suffix: How the name that is made ends, for those who choose a format by it.

    Yields:
        A file beside it, under a name that nobody else uses.

    Raises:
        OutputError: The file is there already, is being written, or cannot be written.
    """
    refuse_existing(path, force=force)
    # Not Path's own, which raises for links that lead to themselves.
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".fer-edge-{os.urandom(8).hex()}.part{suffix}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with nullcontext() if force else _reserved(target):
            # The run that reserved it before may have finished just now.
            refuse_existing(path, force=force)
            try:
                temporary.touch(exist_ok=False)
                yield temporary
                if temporary.exists():
                    _publish(temporary, target, force=force)
            finally:
                with suppress(OSError):
                    temporary.unlink()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}") from error


def _publish(temporary: Path, target: Path, *, force: bool) -> None:
    if force or not target.exists():
        temporary.replace(target)
        return
    other = target.with_name(f"{target.stem}-{os.urandom(4).hex()}{target.suffix}")
    temporary.replace(other)
    raise OutputError(f"{target} has come into being meanwhile; what was to stand there is {other}")


@contextmanager
def _reserved(target: Path) -> Iterator[None]:
    """Keep other runs from writing a file.

    The system's lock ends with the program, however it ends; the lock's file alone means nothing.

    Raises:
        OutputError: Another run is writing it.
    """
    import hashlib  # Late, since it loads OpenSSL, which takes part of a short command's time.

    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    place = target.parent / f".fer-edge-{digest}.lock"
    with ExitStack() as stack:
        while True:
            lock = stack.enter_context(place.open("ab"))
            if not _lock(lock.fileno()):
                raise OutputError(
                    f"{target} is being written by another run; wait for it, or give another name"
                )
            # Its last holder may have deleted it after it was opened here.
            with suppress(OSError):
                if os.path.samestat(os.fstat(lock.fileno()), place.stat()):
                    break
        try:
            yield
        finally:
            if os.name == "nt":  # Where no open file can be deleted.
                stack.close()
            with suppress(OSError):
                place.unlink()


def _lock(descriptor: int) -> bool:
    """Lock a file; False where somebody else has. Disks that know no locks count as locked."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
    return True


def is_special(path: Path) -> bool:
    # Not Path's own tests: they raise for names that are too long and folders that are closed.
    return os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputError where a file would be replaced without ``--force``."""
    if os.path.isdir(path):  # noqa: PTH112
        raise OutputError(f"Expected a file to write, {path} is a folder")
    if os.path.isfile(path) and not force:  # noqa: PTH113
        raise OutputError(f"{path} is there already; give `force=True` to replace it")


def refuse_same(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise OutputError where a file would be written that is read, or that is written twice."""
    taken = {file_identity(path): "what is read" for path in inputs}
    for path in outputs:
        identity = file_identity(path)
        if identity in taken and not is_special(path):
            raise OutputError(f"{path} is {taken[identity]}; give another file or folder")
        taken[identity] = "written twice"


def file_identity(path: Path) -> tuple[int, int] | str:
    """Return what two names of one file have in common, whether it is there yet or not."""
    try:
        known = path.stat()
    except (OSError, ValueError):
        return os.path.realpath(path)
    return known.st_dev, known.st_ino


class TextSink(Protocol):
    """What text is written to, record by record."""

    def write(self, text: str, /) -> Any:
        """Write text."""
        ...

    def flush(self) -> None:
        """Hand on what was written."""
        ...


class ClosedOutput(io.TextIOBase):
    """Stands for a standard output that was closed when the program began."""

    def write(self, text: str, /) -> int:
        """Refuse text.

        Raises:
            OutputError: Always.
        """
        raise OutputError("Cannot write: standard output is closed")


@contextmanager
def standard_output() -> Iterator[TextSink]:
    """Hand out standard output; terminals that lack a letter show its code instead of failing.

    Raises:
        OutputError: It is closed.
    """
    if sys.stdout is None or isinstance(sys.stdout, ClosedOutput):
        raise OutputError("Cannot write: standard output is closed; give --output FILE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    yield sys.stdout


@contextmanager
def atomic_text(path: Path, *, force: bool = False) -> Iterator[TextSink]:
    """Open a UTF-8 file as `atomic_file` does."""
    with atomic_file(path, force=force) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        yield text
        text.detach()


class GrowingFile:
    """A UTF-8 file that grows record by record: whatever ends the program, what was written stays.

    It is there from the start under its own name, so that of two programs the second is refused.
    """

    def __init__(self, path: Path, *, force: bool = False, append: bool = False) -> None:
        """Describe a file; it is opened on entering the ``with`` block.

        Args:
            path: The file; its folder is made where it is missing.
            force: Whether an existing file may be replaced.
            append: Whether text is added to an existing file.
        """
        self._path = path
        special = is_special(path)
        self._mode = "ab" if append else "wb" if force or special else "xb"
        self._file: FileIO | None = None
        self._size = 0

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            OutputError: It is there already, or cannot be written.
        """
        refuse_existing(self._path, force=self._mode != "xb")
        # Exclusive opening does not follow links, which are written through.
        target = Path(os.path.realpath(self._path)) if self._mode == "xb" else self._path
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._mode == "wb" and not is_special(self._path):
                # Another run may be writing it: each then has a file of its own.
                target = Path(os.path.realpath(self._path))
                target.unlink(missing_ok=True)
            try:
                self._file = cast(FileIO, target.open(self._mode, buffering=0))
            except FileExistsError:
                # Another program has made it since.
                refuse_existing(self._path, force=False)
                raise
        except OSError as error:
            raise OutputError(f"Cannot write {self._path}: {error.strerror}") from error
        self._size = self._file.tell() if self._mode == "ab" else 0
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Close the file; a program that failed before it wrote anything leaves none."""
        if self._file:
            self._file.close()
            if kind and self._mode == "xb" and not self._size:
                with suppress(OSError):
                    self._path.unlink()

    def write(self, text: str) -> None:
        """Write the whole text, or nothing.

        Raises:
            OutputError: The file cannot be written; it then ends with the text before.
        """
        if self._file is None:
            raise ValueError("Expected writing inside of 'with GrowingFile(...) as file:'")
        data = memoryview(text.encode())
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:])
        except BrokenPipeError:
            raise
        except OSError as error:
            # A full disk may have taken half of the line. Pipes cannot be cut back.
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), self._size)
            raise OutputError(f"Cannot write {self._path}: {error.strerror}") from error
        self._size += len(data)

    def flush(self) -> None:
        """Do nothing: each text has reached the system when `write` returns."""
