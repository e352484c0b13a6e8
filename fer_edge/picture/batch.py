"""Many pictures to records: reading and detection run ahead, faces share batches."""

import math
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from fer_edge._base.ahead import map_ahead
from fer_edge._base.bounded import read_at_most
from fer_edge._base.files import atomic_file, refuse_existing, refuse_same
from fer_edge.errors import ImageError, OutputError
from fer_edge.image.read import FOREIGN_SUFFIXES, IMAGE_SUFFIXES, MAX_BYTES, Frame, read_image
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.describe import model_input_shape
from fer_edge.inference.detectors import Face
from fer_edge.picture.draw import WRITTEN_SUFFIXES, draw_large, encode
from fer_edge.records import Record

_WAITING_BYTES = 2**24
"""Inputs of pictures with one face each that may wait for the model, bytes."""


@dataclass(frozen=True)
class Picture:
    """One input.

    Attributes:
        name: As the record shows it.
        source: Where it is read from, or its content.
        relative: Its place below the folder that was given; annotated pictures keep it.
        problem: Why there is nothing to read, or "".
    """

    name: str
    source: Path | bytes
    relative: Path
    problem: str = ""


def find_pictures(inputs: Sequence[str], read_stdin: Callable[[], bytes]) -> list[Picture]:
    """Turn files, folders and ``-`` into pictures, folders with all below them, sorted.

    Args:
        inputs: As given on the command line, at least one.
        read_stdin: Gives the content of standard input.
    """
    found = []
    for given in inputs:
        if given == "-":
            found.append(Picture("-", read_stdin(), Path("stdin.png")))
        elif os.path.isdir(given):  # noqa: PTH112 - Path.is_dir raises for names that are too long
            folder = Path(given)
            files, closed = _pictures_below(folder)
            found += [
                Picture(click.format_filename(file), file, file.relative_to(folder))
                for file in files
            ]
            found += closed
            if not files and not closed:
                problem = "Expected a folder with pictures, received one without"
                found.append(Picture(click.format_filename(given), folder, Path(), problem))
        else:
            name = click.format_filename(given)
            found.append(Picture(name, _content(Path(given)), Path(Path(given).name)))
    return found


def _pictures_below(folder: Path) -> tuple[list[Path], list[Picture]]:
    """Return the pictures in a folder and below, and the folders that cannot be looked into."""
    suffixes = IMAGE_SUFFIXES | FOREIGN_SUFFIXES
    closed: list[Picture] = []

    def note(error: OSError) -> None:
        place = Path(os.fsdecode(error.filename))
        problem = f"Expected a folder that can be read: {error.strerror}"
        closed.append(Picture(click.format_filename(place), place, Path(), problem))

    files = sorted(
        Path(place) / name
        for place, _, names in os.walk(folder, onerror=note)
        for name in names
        if Path(name).suffix.lower() in suffixes
    )
    return files, closed


def _content(path: Path) -> Path | bytes:
    """Return what a pipe or device holds, since it can be read but once; files stay where they are.

    One that cannot be read stays a path too, so that its own record says why.
    """
    with suppress(OSError, ValueError):
        if not stat.S_ISREG(path.stat().st_mode):
            return read_at_most(path, MAX_BYTES)
    return path


@dataclass(frozen=True)
class _Seen:
    """A picture after detection: what is left to do is the model's."""

    picture: Picture
    width: int | None
    height: int | None
    faces: Sequence[Face]
    error: str | None = None


def classify_pictures(
    classifier: Classifier,
    pictures: Iterable[Picture],
    *,
    max_pixels: int,
    largest: bool = False,
) -> Iterator[tuple[Picture, Record]]:
    """Classify pictures; one that fails is reported in its record and the others go on.

    Args:
        classifier: Model and detector.
        pictures: Read as needed.
        max_pixels: Larger pictures are refused before they are decoded.
        largest: Whether only the largest face of each picture is classified.

    Yields:
        Each picture with its record, in order.
    """

    def look(picture: Picture) -> tuple[_Seen, NDArray[np.float32]]:
        try:
            if picture.problem:
                raise ImageError(picture.problem)
            frame: Frame = read_image(picture.source, max_pixels=max_pixels)
        except ImageError as error:
            seen = _Seen(picture, None, None, (), error.message)
            return seen, classifier.prepare(np.zeros((1, 1), np.uint8), ())
        faces = classifier.detector.detect(frame)[: 1 if largest else None]
        height, width = frame.shape[:2]
        return _Seen(picture, width, height, faces), classifier.prepare(frame, faces)

    # While the model runs, the next batch is made ready; large inputs wait in smaller numbers.
    input_bytes = 4 * math.prod(model_input_shape(classifier.spec))
    ahead = min(classifier.batch_size, _WAITING_BYTES // input_bytes)
    looked = map_ahead(look, pictures, classifier.threads, ahead)
    for seen, rows in classifier.share_batches(looked):
        results = [classifier.result(face, row) for face, row in zip(seen.faces, rows, strict=True)]
        yield (
            seen.picture,
            Record(
                image=seen.picture.name,
                model=classifier.model_path.name,
                width=seen.width,
                height=seen.height,
                status="error" if seen.error else "ok" if results else "no_face",
                error=seen.error,
                faces=results,
            ),
        )


def annotate_all(
    results: Iterable[tuple[Picture, Record]],
    pictures: Sequence[Picture],
    folder: Path,
    *,
    max_pixels: int,
    top: int,
    force: bool,
) -> Iterator[tuple[Picture, Record]]:
    """Write each picture that was read with its boxes, labels and bars, and pass results on.

    Args:
        results: From `classify_pictures`.
        pictures: All pictures that the results will be of.
        folder: Where annotated pictures are written, under their own names.
        max_pixels: As for `classify_pictures`.
        top: Bars for each face.
        force: Whether existing files are replaced; the pictures themselves never are.

    Yields:
        The results, each after its picture is written; where that failed the record says why.

    Raises:
        OutputError: A file is there already, or is one of the pictures.
    """
    targets = _annotated_names(pictures, folder)
    refuse_same(
        targets.values(),
        [picture.source for picture in pictures if isinstance(picture.source, Path)],
    )
    for target in targets.values():
        refuse_existing(target, force=force)

    def draw(result: tuple[Picture, Record]) -> tuple[Picture, Record]:
        picture, record = result
        # A picture that was given twice is drawn once.
        target = None if record.status == "error" else targets.pop(picture, None)
        if target is None:
            return result
        try:
            # Read again rather than kept: waiting for its batch it would fill the memory.
            frame = read_image(picture.source, max_pixels=max_pixels)
            with atomic_file(target, force=force) as file:
                file.write(encode(draw_large(frame, record.faces, top=top), target.suffix))
        except (ImageError, OutputError) as error:
            problem = f"Classified, but not drawn: {error.message}"
            return picture, replace(record, status="error", error=problem)
        return result

    return map_ahead(draw, results, workers=2)


def _annotated_names(pictures: Sequence[Picture], folder: Path) -> dict[Picture, Path]:
    targets: dict[Picture, Path] = {}
    taken: set[Path] = set()
    for picture in pictures:
        if picture.problem or picture in targets:
            continue
        wanted = folder / picture.relative
        if wanted.suffix.lower() not in WRITTEN_SUFFIXES:
            wanted = wanted.with_name(wanted.name + ".png")
        target, number = wanted, 2
        while target in taken:
            target = wanted.with_stem(f"{wanted.stem}-{number}")
            number += 1
        taken.add(target)
        targets[picture] = target
    return targets
