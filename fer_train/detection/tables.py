"""What tables say of pictures: ours, WIDER FACE's and YOLO's, told by their content.

Ours is a ``boxes.csv``: file, x, y, w, h in pixels; optionally l1x, l1y ... l5y of five
points (eye left and right in the picture, nose, corners of the mouth left and right), ``ignore``
(1: a face may be there), ``by`` and ``score`` (of a face that a teacher alone has labelled, where
``by`` begins with ``teacher``). Beside it an ``images.csv`` may say which pictures are ``negative``
(1: there is no face), and how often a picture's faces are drawn (``weight``).

WIDER FACE's is a text file: the path of a picture, a number of faces, and so many lines of x, y, w,
h and up to six marks, of which the fourth says that the box is invalid: a face may be there.
Without a face, a line of noughts may follow.

YOLO's is a text file for each picture, beside it or under ``labels`` in place of ``images``: a
class, the middle's x and y, width and height, all as shares of the picture's; and then, if there
are any, five points as x and y, or as x, y and whether they are known. Every class is a face, and
an empty file says that there is none.
"""

import csv
import io
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fer_edge.errors import DataError
from fer_edge.image.read import IMAGE_SUFFIXES

POINTS = 5
# What a row is.
NOTHING, FACE, IGNORED = 0.0, 1.0, 2.0

BOXES, IMAGES = "boxes.csv", "images.csv"
POINT_COLUMNS = tuple(f"l{number}{axis}" for number in range(1, POINTS + 1) for axis in "xy")
_TRUE = ("1", "1.0", "True", "true")


@dataclass(frozen=True)
class Row:
    """A face, or a region where one may be.

    Attributes:
        box: x, y, w, h of the left upper corner and the size.
        points: x and y of five points, or nothing.
        kind: `FACE` or `IGNORED`.
        certainty: Of a face that a teacher alone has labelled; else 1.
        relative: Whether box and points are shares of the picture's size, not pixels.
        place: Where it is written.
    """

    box: tuple[float, ...]
    points: tuple[float, ...]
    kind: float
    certainty: float
    relative: bool
    place: str


@dataclass(frozen=True)
class About:
    """What is said of a picture as a whole; ``negative`` is None where nothing is."""

    negative: bool | None = None
    weight: float = 1.0


@dataclass
class Table:
    """Pictures and what is said of them.

    Attributes:
        path: The folder or zip.
        names: Of the pictures, in their order.
        members: By name, where each lies in the folder or zip.
        read_member: Returns the bytes of a member.
        rows: Faces by picture.
        lists_all: Whether the rows are meant to be all that there is to say.
        facts: What is said of pictures as a whole; None where nothing is, of any.
    """

    path: Path
    names: list[str]
    members: Mapping[str, str]
    read_member: Callable[[str], bytes]
    rows: dict[str, list[Row]] = field(default_factory=dict)
    lists_all: bool = False
    facts: dict[str, About] | None = None

    def read(self, name: str) -> bytes:
        """Return a picture's bytes."""
        return self.read_member(self.members[name])

    def about(self, name: str) -> About:
        """Return what is said of a picture as a whole."""
        if self.facts is None:
            return About()
        return self.facts.get(name, About(negative=False))


def read_table(path: Path) -> Table:
    """Read what a folder or zip says of its pictures; one that says nothing has no rows.

    Raises:
        DataError: It cannot be read, or a row of its table is wrong.
    """
    members, read = _open(path)
    pictures = [name for name in members if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    tables = [name for name in members if PurePosixPath(name).name == BOXES]
    if tables:
        boxes = min(tables, key=lambda name: name.count("/"))
        images = boxes.removesuffix(BOXES) + IMAGES
        return _read_boxes(path, boxes, images if images in members else None, pictures, read)
    table = Table(path, pictures, {name: name for name in pictures}, read)
    texts = {name: read(name) for name in members if name.lower().endswith(".txt")}
    wider = {name: text for name, text in texts.items() if _is_wider(text)}
    if wider:
        _read_wider(table, wider)
    else:
        _read_yolo(table, texts)
    return table


def read_own(folder: Path, names: list[str]) -> Table:
    """Read a ``boxes.csv`` and an ``images.csv`` of a folder that may not hold the pictures."""
    return _read_boxes(folder, BOXES, IMAGES, names, lambda name: (folder / name).read_bytes())


def _open(path: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """Return the files below a folder or in a zip, sorted, and what reads one."""
    try:
        if path.is_dir():
            names = [
                file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()
            ]

            def read(name: str) -> bytes:
                return (path / name).read_bytes()

        else:
            archive = zipfile.ZipFile(path)
            names = [name for name in archive.namelist() if not name.endswith("/")]
            read = archive.read
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"Expected a folder or zip of pictures, received {path}: {error}"
        ) from error

    def read_or_refuse(name: str) -> bytes:
        try:
            return read(name)
        except (OSError, zipfile.BadZipFile, RuntimeError, zlib.error) as error:
            raise DataError(f"Could not read {name} in {path}: {error}") from error

    return sorted(
        name
        for name in names
        if not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
    ), read_or_refuse


def _text(path: Path, name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"Expected UTF-8 text in {name} of {path}, received {error}") from error


def _csv_rows(path: Path, name: str, content: bytes) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each row and where it is."""
    reader = csv.DictReader(io.StringIO(_text(path, name, content)))
    for row in reader:
        place = f"line {reader.line_num} of {name} in {path}"
        if None in row or None in row.values():
            raise DataError(
                f"Expected {len(reader.fieldnames or ())} values in {place}, received another "
                "number"
            )
        yield place, row


def _numbers(words: list[str], place: str, what: str) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, words))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"Expected numbers as {what} in {place}, received {', '.join(words)}")
    return numbers


def _check_size(box: tuple[float, ...], file: str, place: str) -> None:
    if box[2] <= 0 or box[3] <= 0:
        raise DataError(
            f"Expected a width and a height above 0 of a face in {file}, received {box[2]:g} x "
            f"{box[3]:g} in {place}"
        )


def _read_boxes(
    path: Path,
    boxes: str,
    images: str | None,
    pictures: list[str],
    read: Callable[[str], bytes],
) -> Table:
    folder = boxes.removesuffix(BOXES)
    own = [name for name in pictures if name.startswith(folder)]
    members = {name.removeprefix(folder).removeprefix("images/"): name for name in own}
    table = Table(path, list(members), members, read, lists_all=True)
    content = read(boxes)
    header = _text(path, boxes, content).partition("\n")[0].strip().split(",")
    if missing := [name for name in ("file", "x", "y", "w", "h") if name not in header]:
        raise DataError(
            f"Expected the columns file, x, y, w, h in {boxes} of {path}, received none of "
            f"{', '.join(missing)}"
        )
    for place, row in _csv_rows(path, boxes, content):
        file = row["file"].removeprefix("images/")
        _check_known(file, members, place)
        box = _numbers([row[name] for name in "xywh"], place, "x, y, w, h")
        _check_size(box, file, place)
        words = [row.get(name, "") for name in POINT_COLUMNS]
        points = _numbers(words, place, "points") if all(words) else ()
        ignored = row.get("ignore", "") in _TRUE
        certainty = 1.0
        if row.get("by", "").startswith("teacher") and row.get("score"):
            (certainty,) = _numbers([row["score"]], place, "score")
            if not 0 <= certainty <= 1:
                raise DataError(f"Expected a score from 0 to 1 in {place}, received {certainty:g}")
        kind = IGNORED if ignored else FACE
        table.rows.setdefault(file, []).append(Row(box, points, kind, certainty, False, place))
    if images:
        table.facts = {}
        for place, row in _csv_rows(path, images, read(images)):
            file = row.get("file", "").removeprefix("images/")
            _check_known(file, members, place)
            weight = _numbers([row.get("weight") or "1"], place, "weight")[0]
            if weight < 0:
                raise DataError(f"Expected a weight of 0 or more in {place}, received {weight:g}")
            table.facts[file] = About(row.get("negative") in _TRUE, weight)
    return table


def _check_known(file: str, members: Mapping[str, str], place: str) -> None:
    if file not in members:
        raise DataError(f"Expected a picture {file!r} as {place} says, found none")


def _is_wider(content: bytes) -> bool:
    lines = content[:2000].decode("utf-8", "replace").split("\n")[:2]
    suffix = PurePosixPath(lines[0].strip()).suffix.lower()
    return len(lines) == 2 and suffix in IMAGE_SUFFIXES and lines[1].strip().isdigit()


def _read_wider(table: Table, texts: Mapping[str, bytes]) -> None:
    # A picture is named by the end of its path.
    ends: dict[str, str] = {}
    for name in table.names:
        parts = PurePosixPath(name).parts
        for start in range(len(parts)):
            ends.setdefault("/".join(parts[start:]), name)
    facts: dict[str, About] = {}
    for name, content in texts.items():
        found = list(_wider_rows(table.path, name, content))
        # The table of another part of the set, whose pictures lie elsewhere.
        if not any(file in ends for file, _, _ in found):
            continue
        for file, place, rows in found:
            _check_known(file, ends, place)
            facts[ends[file]] = About(negative=not rows)
            if rows:
                table.rows[ends[file]] = rows
    table.facts = facts


def _wider_rows(path: Path, name: str, content: bytes) -> Iterator[tuple[str, str, list[Row]]]:
    """Yield pictures, where each is written, and its rows."""
    lines = [
        (line.strip(), f"line {number} of {name} in {path}")
        for number, line in enumerate(_text(path, name, content).split("\n"), 1)
        if line.strip()
    ]
    at = 0
    while at < len(lines):
        file, place = lines[at]
        if PurePosixPath(file).suffix.lower() not in IMAGE_SUFFIXES:
            raise DataError(f"Expected a picture's path in {place}, received {file!r}")
        count, counted = lines[at + 1] if at + 1 < len(lines) else ("", place)
        if not count.isdigit():
            raise DataError(f"Expected a number of faces after {file} in {counted}, got {count!r}")
        faces = lines[at + 2 : at + 2 + int(count)]
        if len(faces) < int(count):
            raise DataError(f"Expected {count} faces after {counted}, received {len(faces)}")
        at += 2 + len(faces)
        if not faces and at < len(lines) and not lines[at][0].strip("0 "):
            at += 1
        rows = [_wider_row(file, *face) for face in faces]
        yield file, place, [row for row in rows if row is not None]


def _wider_row(file: str, line: str, place: str) -> Row | None:
    numbers = _numbers(line.split(), place, "x, y, w, h and marks")
    if not 4 <= len(numbers) <= 10:
        raise DataError(f"Expected x, y, w, h and six marks in {place}, received {line!r}")
    box = numbers[:4]
    if min(box[2:]) == 0:  # the set has some; they show nothing
        return None
    _check_size(box, file, place)
    invalid = len(numbers) > 7 and numbers[7] == 1
    return Row(box, (), IGNORED if invalid else FACE, 1.0, False, place)


def _read_yolo(table: Table, texts: Mapping[str, bytes]) -> None:
    labels = {}
    for name in table.names:
        path = PurePosixPath(name)
        parts = list(path.parts)
        beside = str(path.with_suffix(".txt"))
        if "images" in parts:
            parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
        for label in (str(PurePosixPath(*parts).with_suffix(".txt")), beside):
            if label in texts:
                labels[label] = name
                break
    if not labels:
        return
    for label in texts:
        if "labels" in PurePosixPath(label).parts and label not in labels:
            raise DataError(f"Expected a picture for {label} in {table.path}, found none")
    table.facts = {}
    for label, name in labels.items():
        rows = [
            _yolo_row(name, line, f"line {number} of {label} in {table.path}")
            for number, line in enumerate(_text(table.path, label, texts[label]).split("\n"), 1)
            if line.strip()
        ]
        table.facts[name] = About(negative=not rows)
        if rows:
            table.rows[name] = rows


def _yolo_row(file: str, line: str, place: str) -> Row:
    numbers = _numbers(line.split(), place, "class, x, y, w, h")
    if len(numbers) not in (5, 5 + 2 * POINTS, 5 + 3 * POINTS):
        raise DataError(
            f"Expected a class, x, y, w, h and five points or none in {place}, received {line!r}"
        )
    _, x, y, w, h = numbers[:5]
    _check_size((x, y, w, h), file, place)
    if max(w, h) > 1 or not (0 <= x <= 1 and 0 <= y <= 1):
        raise DataError(
            f"Expected shares of the size of {file}, 0 to 1, received {line!r} in {place}"
        )
    step = (len(numbers) - 5) // POINTS
    points = tuple(
        numbers[start + axis] for start in range(5, len(numbers), step or 1) for axis in (0, 1)
    )
    known = min(points, default=0) > 0 and (step < 3 or min(numbers[7::3]) > 0)
    return Row((x - w / 2, y - h / 2, w, h), points if known else (), FACE, 1.0, True, place)
