"""Pictures with the faces in them, from folders and zips, and checked before any work."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fer_edge._base.threads import available_threads
from fer_edge.errors import DataError, ImageError
from fer_edge.image.read import read_image
from fer_train.detection.tables import (
    FACE,
    IGNORED,
    NOTHING,
    POINTS,
    Row,
    Table,
    read_own,
    read_table,
)

__all__ = ["COLUMNS", "FACE", "IGNORED", "NOTHING", "POINTS", "Picture", "read_pictures"]

S = TypeVar("S")
T = TypeVar("T")

# Columns of a face's row: x1, y1, x2, y2 in pixels; x and y of five points, NaN where not known;
# what it is: `FACE` or `IGNORED`.
COLUMNS = 4 + 2 * POINTS + 1

_MOST_FAULTS = 5


@dataclass(frozen=True)
class Picture:
    """A picture as it was read, and its faces.

    Attributes:
        name: Its path as the table of boxes names it.
        encoded: The file's bytes.
        faces: float32 (F, 15), see `COLUMNS`; ``IGNORED`` are regions where a face may be, which
            count neither for nor against a detector.
        empty: Whether it is known to hold no face.
        weight: How often its faces are drawn in training, relative to other pictures'.
        certainty: float32 (F,), how sure a teacher was of each face that nobody else has labelled;
            1 for the others. None is 1 for all.
    """

    name: str
    encoded: bytes
    faces: NDArray[np.float32]
    empty: bool
    weight: float = 1.0
    certainty: NDArray[np.float32] | None = None

    @property
    def labelled(self) -> bool:
        """Whether anybody has said what it holds."""
        return self.empty or len(self.faces) > 0

    @property
    def certainties(self) -> NDArray[np.float32]:
        """float32 (F,); see `certainty`."""
        return np.ones(len(self.faces), np.float32) if self.certainty is None else self.certainty

    def pixels(self) -> NDArray[np.uint8]:
        """Return uint8 (H, W, 3), BGR.

        Raises:
            DataError: The file is not a picture that can be read.
        """
        try:
            return read_image(self.encoded)
        except ImageError as error:
            raise DataError(
                f"Expected a picture, received {self.name}, which cannot be decoded: "
                f"{error.message}"
            ) from error


def read_pictures(
    paths: Sequence[Path], limit: int | None = None, *, silent_is_empty: bool = True
) -> list[Picture]:
    """Read the pictures of folders or zips and what their tables say of them.

    The tables are told by their content; see `fer_train.detection.tables`. All pictures are
    decoded once, and boxes compared with them.

    Args:
        paths: Folders or zips, each with a table of its own. Of several, the names of the pictures
            begin with the folder's or zip's.
        limit: Read at most so many pictures, spread evenly over the set; None for all.
        silent_is_empty: Whether a picture of which a ``boxes.csv`` says nothing holds no face,
            where no ``images.csv`` says which do not. False where a teacher is to look at it.

    Raises:
        DataError: There is no picture, one cannot be read, or boxes are wrong: the first faults
            are named by file and row.
    """
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        raise DataError(f"Expected data of different names, received {', '.join(map(str, paths))}")
    tables = [read_table(path) for path in paths]
    chosen = [(table, name) for table in tables for name in table.names]
    if not chosen:
        raise DataError(f"Expected pictures in {', '.join(map(str, paths))}, received none")
    if limit is not None:
        chosen = chosen[:: max(1, len(chosen) // limit)][:limit]
    faults: list[str] = []

    def read(item: tuple[Table, str]) -> Picture | None:
        table, name = item
        return _read_one(table, name, faults, len(tables) > 1, silent_is_empty)

    pictures = in_threads(read, chosen)
    if silent_is_empty and not any(table.rows for table in tables):
        raise DataError(
            f"Expected boxes of faces in {', '.join(map(str, paths))}, received none; give a "
            "boxes.csv with file, x, y, w, h, or WIDER FACE's or YOLO's text files, or let a "
            "--teacher label the pictures"
        )
    if faults:
        more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        raise DataError("; ".join(sorted(faults)[:_MOST_FAULTS]) + more)
    return [picture for picture in pictures if picture is not None]


def in_threads(change: Callable[[T], S], items: Iterable[T]) -> list[S]:
    """Return what a function makes of each item, by all threads that this process may use."""
    with ThreadPoolExecutor(available_threads()) as pool:
        return list(pool.map(change, items))


def _read_one(
    table: Table, name: str, faults: list[str], prefixed: bool, silent_is_empty: bool
) -> Picture | None:
    about = table.about(name)
    picture = Picture(
        f"{table.path.stem}/{name}" if prefixed else name,
        table.read(name),
        np.zeros((0, COLUMNS), np.float32),
        about.negative or (about.negative is None and silent_is_empty and table.lists_all),
        about.weight,
    )
    try:
        height, width = picture.pixels().shape[:2]
    except DataError as error:
        faults.append(error.message)
        return None
    for row in table.rows.get(name, []):
        x, y, w, h = np.array(row.box) * _scale(row, width, height, 2)
        if not (0 <= x + w / 2 <= width and 0 <= y + h / 2 <= height):
            faults.append(
                f"Expected the middle of a face inside of {name}, {width} x {height} pixels, "
                f"received {x:g}, {y:g}, {w:g}, {h:g} in {row.place}"
            )
    return _with_rows(picture, table, name, width, height)


def _scale(row: Row, width: int, height: int, points: int) -> NDArray[np.float64]:
    """Return what makes pixels of a row's numbers, x and y in turn."""
    return np.tile([width, height] if row.relative else [1.0, 1.0], points)


def _with_rows(picture: Picture, table: Table, name: str, width: int, height: int) -> Picture:
    rows = table.rows.get(name)
    if not rows:
        return picture
    faces = np.full((len(rows), COLUMNS), np.nan)
    for face, row in zip(faces, rows, strict=True):
        x, y, w, h = np.array(row.box) * _scale(row, width, height, 2)
        face[:4] = x, y, x + w, y + h
        if row.points:
            face[4:-1] = np.array(row.points) * _scale(row, width, height, POINTS)
        face[-1] = row.kind
    certainty = np.array([row.certainty for row in rows], np.float32)
    return dataclasses.replace(
        picture, faces=faces.astype(np.float32), empty=False, certainty=certainty
    )


def read_labels(folder: Path, encoded: Mapping[str, bytes]) -> list[Picture]:
    """Read the labels that a run has written, of pictures that have been checked.

    Args:
        folder: Of ``boxes.csv`` and ``images.csv``.
        encoded: The pictures' bytes by name.
    """
    table = read_own(folder, list(encoded))
    none = np.zeros((0, COLUMNS), np.float32)
    return [
        _with_rows(
            Picture(name, encoded[name], none, about.negative is True, about.weight),
            table,
            name,
            0,
            0,
        )
        for name, about in (table.facts or {}).items()
    ]


def check_trainable(pictures: Sequence[Picture]) -> None:
    """Check that there is something to find, and something without it.

    Raises:
        DataError: There are no faces, or no pictures without any.
    """
    faces = any((picture.faces[:, -1] == FACE).any() for picture in pictures)
    if not faces or not any(picture.empty for picture in pictures):
        raise DataError(
            "Expected pictures with a face and pictures without any, received none "
            f"{'without any' if faces else 'with a face'}; add some (in boxes.csv a picture "
            "without a row, in YOLO's form an empty text file)"
        )
