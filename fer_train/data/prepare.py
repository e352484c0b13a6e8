"""Pictures and videos -> the faces in them, found, turned upright and cut as the runtime does.

What comes of it is a data set as `fer_train.data.load` reads it, and ``faces.csv``, which keeps
what each face came from, and what had none.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from fer_edge._base._cv2 import cv2
from fer_edge._base.files import atomic_text
from fer_edge.contract import ModelSpec
from fer_edge.errors import DataError, ImageError, SourceError
from fer_edge.image.read import IMAGE_SUFFIXES, Frame, read_image
from fer_edge.inference.detectors import FaceDetector
from fer_edge.inference.preprocess import prepare, tilt
from fer_edge.records import plain_cell
from fer_edge.video.find import VIDEO_SUFFIXES
from fer_edge.video.source import VideoSource
from fer_train.data.emotions import LEFT_OUT, Labelling, language_advice
from fer_train.data.layouts import LabelledPicture, load_layout
from fer_train.data.load import folder_files, split_of
from fer_train.data.pixels import as_frames

TABLE = "faces.csv"
UNLABELLED = "unlabelled"
"""The folder of faces whose emotion nobody has said."""

_HEADER = (
    *("file", "status", "error", "source", "group", "time_s", "label"),
    *("left", "top", "width", "height", "score", "tilt"),
)


@dataclass(frozen=True)
class Origin:
    """A picture or a video that is searched for faces.

    Attributes:
        path: The file.
        name: Its place below the folder that was given, beginning with that folder's name.
        label: The class of its faces, or `UNLABELLED`.
        split: The folder such as ``train`` that it lies in or belongs to, or "".
    """

    path: Path
    name: PurePosixPath
    label: str
    split: str

    @property
    def is_video(self) -> bool:
        """Whether it has frames."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


@dataclass
class Prepared:
    """What became of a preparation.

    Attributes:
        table: The csv of all pictures and frames.
        faces: How many faces were cut, by label.
        no_face: Pictures and frames in which no face was found.
        errors: What cannot be read, and why.
        skipped: How many files were left out, by reason.
        unlabelled: How many of the faces are of no class that is known, by the folder of their
            file.
    """

    table: Path
    faces: Counter[str] = field(default_factory=Counter)
    unlabelled: Counter[str] = field(default_factory=Counter)
    no_face: int = 0
    errors: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def prepare_faces(
    sources: Sequence[Path],
    output: Path,
    detector: FaceDetector,
    *,
    layout: str = "folders",
    labelling: Labelling,
    labels_map: Sequence[str] = (),
    spec: ModelSpec,
    frames_per_s: float = 2.0,
) -> Prepared:
    """Cut the largest face of each picture, and of some frames of each video, to a data set.

    Args:
        sources: Folders and videos. A file's label is that of the nearest folder that means one.
        output: A folder outside of the sources that is empty or not there yet. Faces go to
            ``[SPLIT/]LABEL/NAME.png``, and all is told of in `TABLE`, which is written last.
        detector: Finds the faces.
        layout: How the folders name the emotions of pictures, see `load_layout`.
        labelling: The classes, and what names mean.
        labels_map: What the labelling was made of, for the layout.
        spec: Size, colour (grey or RGB) and margin of the faces.
        frames_per_s: Frames of a video's second that are taken.

    Raises:
        DataError: There is nothing to read, or the output holds something or lies in a source.
        OSError: The output cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"Expected an empty folder for the faces, received {output}")
    for source in sources:
        # The next command on the source would take the faces for pictures of it.
        if source.resolve() in (output.resolve(), *output.resolve().parents):
            raise DataError(
                f"Expected a folder for the faces outside of {source}, received {output}"
            )
    result = Prepared(output / TABLE)
    # A file that two of the sources hold is taken once.
    origins = {
        origin.path.resolve(): origin
        for source in sources
        for origin in _origins(source, layout, labelling, labels_map, result.skipped)
    }
    if not origins:
        left_out = "; ".join(f"{count} x {reason}" for reason, count in result.skipped.items())
        raise DataError(
            f"Expected pictures or videos in {', '.join(map(str, sources))}, received none"
            + (f" ({left_out})" if left_out else "")
        )
    rows: list[list[object]] = []
    taken: set[PurePosixPath] = set()
    for origin in tqdm(origins.values(), unit=" files", disable=None):
        try:
            for name, time_s, frame in _frames(origin, frames_per_s):
                face = _cut(frame, detector, spec)
                row: dict[str, object] = {"status": "no_face"}
                if face is None:
                    result.no_face += 1
                else:
                    place = _place(origin, name, taken)
                    _write(output / place, face[0])
                    row = {"file": place, "status": "ok", **face[1]}
                    result.faces[origin.label] += 1
                    if origin.label == UNLABELLED:
                        result.unlabelled[origin.path.resolve().parent.name] += 1
                rows.append(_row(origin, row | {"time_s": time_s}))
        except (ImageError, SourceError) as error:
            result.errors.append(f"{origin.path}: {error.message}")
            rows.append(_row(origin, {"status": "error", "error": error.message}))
    with atomic_text(result.table) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_HEADER)
        writer.writerows(rows)
    return result


def _origins(
    source: Path,
    layout: str,
    labelling: Labelling,
    labels_map: Sequence[str],
    skipped: Counter[str],
) -> Iterator[Origin]:
    """Yield the pictures and videos of a source, sorted by name."""
    if not source.is_dir():
        if source.suffix.lower() not in VIDEO_SUFFIXES:
            raise DataError(f"Expected folders and videos, received {source}")
        label = labelling.meaning(source.resolve().parent.name)
        yield Origin(source, PurePosixPath(source.name), label or UNLABELLED, "")
        return
    names = [PurePosixPath(name) for name in folder_files(source)]
    pictures = any(name.suffix.lower() in IMAGE_SUFFIXES for name in names)
    listed: dict[Path, LabelledPicture] = {}
    if pictures and layout != "folders":
        found = load_layout(source, layout, labelling.classes, labels_map)
        listed = {picture.path: picture for picture in found.pictures}
        skipped.update(found.skipped)
    # The folder itself may be named by an emotion too.
    root = PurePosixPath(source.resolve().name)
    labelled = any(_label(root / name, labelling) for name in names)
    for name in names:
        suffix = name.suffix.lower()
        if suffix not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            continue
        path = source / name
        by_layout = suffix in IMAGE_SUFFIXES and layout != "folders"
        if by_layout and path not in listed:
            continue
        label = listed[path].emotion if by_layout else _label(root / name, labelling)
        if not by_layout and (label == LEFT_OUT or (labelled and label is None)):
            folder = name.parent.name
            skipped[f"folder {folder!r} is no class that is known{language_advice(folder)}"] += 1
            continue
        split = next((part for part in name.parts[:-1] if split_of(part)), "")
        if by_layout:
            split = split or listed[path].split
        yield Origin(path, root / name, label or UNLABELLED, split)


def _label(name: PurePosixPath, labelling: Labelling) -> str | None:
    """Return the class of the nearest folder that means one, `LEFT_OUT` included, or None."""
    meanings = (labelling.meaning(part) for part in reversed(name.parts[:-1]))
    return next((means for means in meanings if means is not None), None)


def _frames(origin: Origin, frames_per_s: float) -> Iterator[tuple[str, float | None, Frame]]:
    """Yield the name, time and picture of what is searched in a file."""
    stem = origin.path.stem
    if not origin.is_video:
        yield stem, None, read_image(origin.path)
        return
    due_s = 0.0
    with VideoSource(origin.path) as source:
        for frame in source:
            if frame.time_s + 1e-6 >= due_s:
                due_s = max(due_s + 1 / frames_per_s, frame.time_s)
                yield f"{stem}_frame-{frame.index:06}", round(frame.time_s, 3), frame.image_bgr


def _cut(
    frame: Frame, detector: FaceDetector, spec: ModelSpec
) -> tuple[Frame, dict[str, object]] | None:
    """Return the largest face as the runtime would show it to a model, and where it was."""
    found = detector.detect(frame)[:1]
    if not found:
        return None
    (face,) = found
    left, top, width, height = face.box
    whole = face.box == (0, 0, frame.shape[1], frame.shape[0])
    # A face that is the whole picture is scaled, not cut to a square.
    levels = prepare(frame, [None if whole else face.box], spec, [face.points])
    turned = "" if face.points is None else round(tilt(face.points), 1)
    score = "" if face.score is None else round(face.score, 4)
    where = {"left": left, "top": top, "width": width, "height": height}
    (picture,) = as_frames(np.rint(levels).astype(np.uint8))
    return picture, {**where, "score": score, "tilt": turned}


def _place(origin: Origin, name: str, taken: set[PurePosixPath]) -> PurePosixPath:
    """Return where a face goes: a name of its own, that keeps what tells people and clips."""
    folders = [part for part in origin.name.parts[1:-1] if part not in (origin.split, origin.label)]
    folder = PurePosixPath(origin.split, origin.label)
    # The file's own name stays last, and first where nothing else needs telling apart.
    place = folder / f"{name}.png"
    if place in taken:
        place = folder / f"{'_'.join([*folders, name])}.png"
    number = 2
    while place in taken:
        place = folder / f"{number}_{name}.png"
        number += 1
    taken.add(place)
    return place


def _row(origin: Origin, values: dict[str, object]) -> list[object]:
    known = values | {
        "source": plain_cell(str(origin.name)),
        "group": plain_cell(str(origin.name)),
        "label": origin.label,
    }
    return ["" if known.get(key) is None else known[key] for key in _HEADER]


def _write(path: Path, face: Frame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", face)[1].tobytes())
