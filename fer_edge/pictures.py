"""Many pictures to records: reading and detection run ahead, faces share batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_edge.ahead import map_ahead
from fer_edge.classifier import Classifier
from fer_edge.errors import ImageError
from fer_edge.faces import Face
from fer_edge.images import IMAGE_SUFFIXES, read_image
from fer_edge.output import Record
from fer_edge.preprocess import Frame


@dataclass(frozen=True)
class Picture:
    """One input: its name for the record, and where it is read from or why it cannot be."""

    name: str
    source: Path | bytes
    relative: Path
    problem: str = ""


def find_pictures(inputs: Sequence[str], read_stdin: Callable[[], bytes]) -> list[Picture]:
    """Turn files, folders and ``-`` into pictures, folders with all below them, sorted.

    Args:
        inputs: As given on the command line.
        read_stdin: Gives the picture on standard input.
    """
    found = []
    for given in inputs:
        path = Path(given)
        if given == "-":
            found.append(Picture("-", read_stdin(), Path("stdin.png")))
        elif path.is_dir():
            inside = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
            )
            found += [Picture(str(file), file, file.relative_to(path)) for file in inside]
            if not inside:
                problem = "Expected a folder with pictures, found none in it"
                found.append(Picture(given, path, Path(), problem))
        else:
            found.append(Picture(given, path, Path(path.name)))
    return found


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

    looked = map_ahead(look, pictures, classifier.threads)
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
