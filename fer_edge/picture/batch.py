"""Many pictures to records: reading and detection run ahead, faces share batches."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_edge._base.ahead import map_promptly
from fer_edge._base.files import atomic_file, refuse_existing, refuse_same
from fer_edge._base.folders import free_name
from fer_edge.errors import ImageError, OutputError
from fer_edge.image.damage import DamageWatch
from fer_edge.image.fetch import fetch, is_address
from fer_edge.image.read import MAX_BYTES, Frame, read_image
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.describe import model_input_shape
from fer_edge.inference.detectors import Face
from fer_edge.inference.preprocess import align_face
from fer_edge.picture.draw import WRITTEN_SUFFIXES, draw_large, encode
from fer_edge.picture.find import Picture
from fer_edge.picture.record import Record

_WAITING_BYTES = 2**24
"""Inputs of pictures with one face each that may wait for the model, bytes."""
_DAMAGED = "Classified, but the picture is damaged: what its faces show may be wrong"

Result = tuple[Picture, Record]


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
    pictures: Iterable[Picture | None],
    *,
    max_pixels: int,
    largest: bool = False,
    damage: DamageWatch | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Result | None]:
    """Classify pictures; one that fails is reported in its record and the others go on.

    Args:
        classifier: Model and detector.
        pictures: Read as needed; None where there is none for now.
        max_pixels: Larger pictures are refused before they are decoded.
        largest: Whether only the largest face of each picture is classified.
        damage: Tells pictures that are damaged in the middle, inside of its ``with`` block.
        stopped: Whether to end now, with the results of what is looked at already.

    Yields:
        Each picture with its record, in order, soon after it is known; None at the latest a
        moment after the result before.
    """
    watch = damage or DamageWatch()

    def look(picture: Picture) -> tuple[_Seen, NDArray[np.float32]]:
        try:
            if picture.problem:
                raise ImageError(picture.problem)
            if is_address(picture.source):
                # Kept, since the address may give another picture the next time.
                picture = replace(picture, source=fetch(str(picture.source), MAX_BYTES))
            frame, damaged = watch.read(lambda: read_image(picture.source, max_pixels=max_pixels))
        except ImageError as error:
            seen = _Seen(picture, None, None, (), error.message)
            return seen, classifier.prepare(np.zeros((1, 1), np.uint8), ())
        faces = classifier.detector.detect(frame)[: 1 if largest else None]
        height, width = frame.shape[:2]
        problem = _DAMAGED if damaged else None
        return _Seen(picture, width, height, faces, problem), classifier.prepare(frame, faces)

    # While the model runs, the next batch is made ready; large inputs wait in smaller numbers.
    input_bytes = 4 * math.prod(model_input_shape(classifier.spec))
    ahead = min(classifier.batch_size, _WAITING_BYTES // input_bytes)
    looked = map_promptly(look, pictures, classifier.threads, ahead, stopped=stopped)
    for item in classifier.share_batches(looked):
        if item is None:
            yield None
            continue
        seen, rows = item
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
                mirror=classifier.mirror,
                prior=classifier.prior,
            ),
        )


class PictureFolder:
    """A folder that takes pictures made of others, each under the place of its original."""

    def __init__(self, folder: Path, *, force: bool) -> None:
        """Describe a folder; it is made when the first picture is written.

        Args:
            folder: The folder.
            force: Whether existing files are replaced; originals never are.
        """
        self._folder = folder
        self._force = force
        self._places: dict[tuple[str, Path], Path] = {}
        self._taken: set[Path] = set()

    def place(self, picture: Picture, face: int | None = None) -> Path:
        """Return where a picture made of this one goes, or that of one of its faces.

        Two pictures of one name get different places.
        """
        if picture.identity not in self._places:
            wanted = self._folder / picture.relative
            if wanted.suffix.lower() not in WRITTEN_SUFFIXES:
                wanted = wanted.with_name(wanted.name + ".png")
            self._places[picture.identity] = free_name(wanted, self._taken)
        place = self._places[picture.identity]
        return place if face is None else place.with_stem(f"{place.stem}-face{face}")

    def check(
        self, pictures: Iterable[Picture], originals: Iterable[Path], face: int | None = None
    ) -> None:
        """Check before all work that pictures made of these can be written.

        Raises:
            OutputError: A file is there already, or is one of the originals.
        """
        whole = [picture for picture in pictures if not picture.problem]
        targets = dict.fromkeys(self.place(picture, face) for picture in whole)
        refuse_same(targets, originals)
        for target in targets:
            refuse_existing(target, force=self._force)

    def write(self, path: Path, frame_bgr: Frame) -> None:
        """Write a picture.

        Raises:
            OutputError: It cannot be written.
        """
        with atomic_file(path, force=self._force) as file:
            file.write(encode(frame_bgr, path.suffix))


def save_pictures(
    results: Iterable[Result | None],
    *,
    annotated: PictureFolder | None,
    crops: PictureFolder | None,
    margin: float,
    max_pixels: int,
    top: int,
) -> Iterator[Result | None]:
    """Write each picture that was read with what was found in it, and its faces; pass results on.

    Args:
        results: From `classify_pictures`.
        annotated: Takes the pictures with boxes, labels and bars, or None.
        crops: Takes each face as a picture of its own, its eyes level where the detector tells
            where they are, or None.
        margin: What is added on each side of a face that is cut out, in its longer sides.
        max_pixels: As for `classify_pictures`.
        top: Bars for each face.

    Yields:
        The results, each after its pictures are written; where that failed the record says why.
    """
    written: set[tuple[str, Path]] = set()

    def first_ones() -> Iterator[tuple[Result, bool] | None]:
        """Find each picture's places in order; one that was given twice is drawn once."""
        for result in results:
            if result is None:
                yield None
                continue
            picture, record = result
            first = record.width is not None and picture.identity not in written
            if first:
                written.add(picture.identity)
                for folder in (annotated, crops):
                    if folder:
                        folder.place(picture)
            yield result, first

    def save(item: tuple[Result, bool]) -> Result:
        (picture, record), first = item
        if not first:
            return picture, record
        try:
            # Read again rather than kept: waiting for its batch it would fill the memory.
            frame = read_image(picture.source, max_pixels=max_pixels)
            if annotated:
                annotated.write(annotated.place(picture), draw_large(frame, record.faces, top=top))
            if crops:
                for number, face in enumerate(record.faces):
                    cut = align_face(frame, face.box, face.points, margin)
                    # A copy, since encoding needs whole rows.
                    crops.write(crops.place(picture, number), np.ascontiguousarray(cut))
        except (ImageError, OutputError) as error:
            problem = f"Classified, but not drawn: {error.message}"
            return picture, replace(record, status="error", error=problem)
        return picture, record

    return map_promptly(save, first_ones(), workers=2)
