"""Pictures with the faces in them, from a folder or zip with a ``boxes.csv``."""

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import DataError

POINTS = 5
# Columns of a face's row: x1, y1, x2, y2 in pixels; x and y of five points, NaN where not known;
# what it is, one of these.
COLUMNS = 4 + 2 * POINTS + 1
NOTHING, FACE, IGNORED = 0.0, 1.0, 2.0

_BOXES = "boxes.csv"
_IMAGES = "images.csv"
_TRUE = ("1", "True", "true")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


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
    """

    name: str
    encoded: bytes
    faces: NDArray[np.float32]
    empty: bool
    weight: float = 1.0

    def pixels(self) -> NDArray[np.uint8]:
        """Return uint8 (H, W, 3), BGR.

        Raises:
            DataError: The file is not a picture that OpenCV reads.
        """
        image = cv2.imdecode(np.frombuffer(self.encoded, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"Expected a picture, received {self.name}, which cannot be decoded")
        return np.asarray(image, np.uint8)


def read_pictures(paths: Sequence[Path], limit: int | None = None) -> list[Picture]:
    """Read the pictures of zips that hold ``boxes.csv`` and ``images/``, in their order.

    A picture without a row holds no face, unless an ``images.csv`` lies there too and does not call
    it ``negative``; that may also give a ``weight``. One table serves all the zips, so that a large
    set can lie in parts.

    Args:
        paths: Zip files.
        limit: Read at most so many pictures, spread evenly over the set; None for all.

    Raises:
        DataError: A file is no such zip, or a row of its table cannot be read.
    """
    rows: dict[str, list[list[float]]] = {}
    facts: dict[str, dict[str, str]] | None = None
    members: list[tuple[Path, str]] = []
    for path in paths:
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                members += [(path, name) for name in names if name.lower().endswith(_SUFFIXES)]
                if _BOXES in names:
                    _read_boxes(path, archive.read(_BOXES), rows)
                if _IMAGES in names:
                    table = csv.DictReader(io.StringIO(archive.read(_IMAGES).decode("utf-8-sig")))
                    facts = (facts or {}) | {row["file"]: row for row in table}
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"Expected a zip of pictures, received {path}: {error}") from error
    if not rows:
        raise DataError(
            f"Expected {_BOXES} in {', '.join(map(str, paths))}, received none; "
            "give the boxes as file, x, y, w, h"
        )
    if limit is not None:
        members = members[:: max(1, len(members) // limit)][:limit]
    pictures = []
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            for own, member in members:
                if own == path:
                    name = member.removeprefix("images/")
                    faces = np.array(rows.get(name, []), np.float32).reshape(-1, COLUMNS)
                    about = (facts or {}).get(name, {})
                    empty = facts is None or about.get("negative") in _TRUE
                    weight = float(about.get("weight") or 1)
                    pictures.append(
                        Picture(name, archive.read(member), faces, empty and not len(faces), weight)
                    )
    return pictures


def _read_boxes(path: Path, table: bytes, rows: dict[str, list[list[float]]]) -> None:
    points = [f"l{number}{axis}" for number in range(1, POINTS + 1) for axis in "xy"]
    for line, row in enumerate(csv.DictReader(io.StringIO(table.decode("utf-8-sig"))), 2):
        try:
            x, y, width, height = (float(row[name]) for name in "xywh")
            known = [float(row[name]) if row.get(name) else np.nan for name in points]
            file = row["file"]
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"Expected file, x, y, w, h in line {line} of {_BOXES} in {path}, received {row}"
            ) from error
        kind = IGNORED if (row.get("ignore") or "0") in _TRUE else FACE
        rows.setdefault(file, []).append([x, y, x + width, y + height, *known, kind])
