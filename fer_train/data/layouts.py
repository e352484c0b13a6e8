"""Data sets that no model here was trained on, found in the form in which their authors give them.

Nothing is decoded here: these are whole pictures, in which a face may have to be found first.
Whatever is left out is counted with the reason, since a score means little without it.

| layout | pictures | what their names say |
|---|---|---|
| folders | `<emotion>/*` as in `fer_train.data`, or pictures without labels | |
| jaffe | `KA.AN1.39.tiff` | poser, emotion, number, running number |
| ckplus | folders `anger` ... `surprise`, as cut from CK+'s last frames | `contempt` is left out |
| kdef | `AF01ANS.JPG` | session, sex, poser, emotion, angle; only the angle S, straight, is kept |
| rafdb | `train_00001_aligned.jpg`, `list_patition_label.txt` | split; codes 1 to 7 in the list |
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fer_edge.contract import EMOTIONS
from fer_edge.errors import DataError
from fer_edge.image.read import IMAGE_SUFFIXES
from fer_train.data.emotions import (
    CONTEMPT,
    LEFT_OUT,
    Labelling,
    class_name,
    language_advice,
    make_labelling,
)
from fer_train.data.load import folder_files, split_of


@dataclass(frozen=True)
class LabelledPicture:
    """One picture.

    Attributes:
        path: The file.
        emotion: By name, or None where nobody has said.
        split: ``train`` or ``test`` where its name says so, or "".
    """

    path: Path
    emotion: str | None
    split: str = ""


@dataclass(frozen=True)
class LabelledSet:
    """The pictures of a data set, sorted by path, and how many were left out for which reason."""

    pictures: tuple[LabelledPicture, ...]
    skipped: Mapping[str, int]


class _SkippedError(Exception):
    """A picture is left out; the message is the reason."""


_Rule = Callable[[PurePosixPath], str | None]
"""From a picture's path inside the data set to its emotion; raises `_SkippedError`."""

_LETTERS = {
    "AN": "angry",
    "DI": "disgust",
    "FE": "fear",
    "AF": "fear",
    "HA": "happy",
    "SA": "sad",
    "SU": "surprise",
    "NE": "neutral",
}
_JAFFE_NAME = re.compile(r"[A-Z]{2}\.(AN|DI|FE|HA|SA|SU|NE)\d+\.\d+", re.IGNORECASE)
_KDEF_NAME = re.compile(r"[AB][FM]\d{2}(AF|AN|DI|HA|NE|SA|SU)(S|HL|HR|FL|FR)", re.IGNORECASE)
_KDEF_ANGLES = {"H": "half profile", "F": "full profile"}
_RAFDB_EMOTIONS = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
# The data set's own spelling, and what people make of it.
_RAFDB_LISTS = ("list_patition_label.txt", "list_partition_label.txt")


def load_layout(
    folder: str | Path,
    layout: str,
    labels: Sequence[str] = EMOTIONS,
    labels_map: Sequence[str] = (),
) -> LabelledSet:
    """List the pictures of a data set with their emotions.

    Args:
        folder: Where the data set was unpacked.
        layout: One of `LAYOUTS`.
        labels: Emotions that the model knows; folders may be named by them too.
        labels_map: What other names of folders mean, see `make_labelling`.

    Raises:
        DataError: The folder is missing, its label list is broken, no picture in it is named as
            the layout asks, or the map names what the model does not know.
        ValueError: The layout is unknown.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"Expected a layout of {', '.join(LAYOUTS)}, received {layout!r}")
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected an unpacked data set ({layout})")
    names = [PurePosixPath(name) for name in folder_files(root)]
    make_rule, example = _MAKERS[layout]
    known = tuple(dict.fromkeys((*EMOTIONS, *map(class_name, labels))))
    labelling = make_labelling(known, labels_map)
    rule = make_rule(root, names, labelling)
    pictures: list[LabelledPicture] = []
    skipped: Counter[str] = Counter()
    for name in names:
        if name.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        try:
            emotion = rule(name)
            # What the map makes of an emotion that the layout tells by itself.
            meant = None if emotion is None else labelling.meaning(emotion)
            if meant == LEFT_OUT:
                raise _SkippedError(f"{emotion} is left out")
            split = split_of(name.name.partition("_")[0]) if layout == "rafdb" else ""
            pictures.append(LabelledPicture(root / name, meant, split))
        except _SkippedError as reason:
            skipped[str(reason)] += 1
    if not pictures:
        left_out = "; ".join(f"{count} x {reason}" for reason, count in skipped.items())
        raise DataError(
            f"{root}: expected pictures such as {example} ({layout}), found none"
            + (f" ({left_out})" if left_out else "")
        )
    return LabelledSet(tuple(pictures), dict(sorted(skipped.items())))


def _folders(root: Path, names: Sequence[PurePosixPath], labelling: Labelling) -> _Rule:
    labelled = any(labelling.meaning(name.parent.name) for name in names)

    def rule(name: PurePosixPath) -> str | None:
        emotion = labelling.meaning(name.parent.name)
        if labelled and not emotion:
            folder = name.parent.name
            raise _SkippedError(
                f"folder {folder!r} is no emotion that is known{language_advice(folder)}"
            )
        return emotion or None

    return rule


def _ckplus(root: Path, names: Sequence[PurePosixPath], labelling: Labelling) -> _Rule:
    def rule(name: PurePosixPath) -> str:
        folder = name.parent.name
        if emotion := labelling.meaning(folder):
            return emotion
        if folder.lower() == CONTEMPT:
            raise _SkippedError("contempt is none of the seven emotions")
        raise _SkippedError(f"folder {folder!r} is not one of CK+'s")

    return rule


def _jaffe(root: Path, names: Sequence[PurePosixPath], labelling: Labelling) -> _Rule:
    def rule(name: PurePosixPath) -> str:
        if match := _JAFFE_NAME.fullmatch(name.stem):
            return _LETTERS[match[1].upper()]
        raise _SkippedError("not a name of JAFFE")

    return rule


def _kdef(root: Path, names: Sequence[PurePosixPath], labelling: Labelling) -> _Rule:
    def rule(name: PurePosixPath) -> str:
        match = _KDEF_NAME.fullmatch(name.stem)
        if match is None:
            raise _SkippedError("not a name of KDEF")
        angle = match[2].upper()
        if angle != "S":
            raise _SkippedError(_KDEF_ANGLES[angle[0]])
        return _LETTERS[match[1].upper()]

    return rule


def _rafdb(root: Path, names: Sequence[PurePosixPath], labelling: Labelling) -> _Rule:
    lists = [name for name in names if name.name.lower() in _RAFDB_LISTS]
    if len(lists) != 1:
        raise DataError(
            f"{root}: expected one label list {_RAFDB_LISTS[0]} (rafdb), found {len(lists)}"
        )
    listed = _read_label_list(root / lists[0])
    aligned = {name.stem for name in names if name.stem.endswith("_aligned")}

    def rule(name: PurePosixPath) -> str:
        stem = name.stem.removesuffix("_aligned")
        if stem not in listed:
            raise _SkippedError("not in the label list")
        if name.stem == stem and f"{stem}_aligned" in aligned:
            raise _SkippedError("original beside its aligned picture")
        return listed[stem]

    return rule


def _read_label_list(file: Path) -> dict[str, str]:
    """Read lines such as ``train_00001.jpg 5``: stem -> emotion."""
    labels = {}
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        match line.split():
            case []:
                continue
            case [name, code] if code in "1234567" and len(code) == 1:
                labels[PurePosixPath(name).stem] = _RAFDB_EMOTIONS[int(code) - 1]
            case _:
                raise DataError(
                    f"{file}, line {number}: expected a file name and a code from 1 to 7, "
                    f"received {line[:60]!r}"
                )
    return labels


_MAKERS: dict[str, tuple[Callable[[Path, Sequence[PurePosixPath], Labelling], _Rule], str]] = {
    "folders": (_folders, "happy/1.jpg or 1.jpg"),
    "jaffe": (_jaffe, "KA.AN1.39.tiff"),
    "ckplus": (_ckplus, "anger/S010_004_00000017.png"),
    "kdef": (_kdef, "AF01ANS.JPG"),
    "rafdb": (_rafdb, "train_00001_aligned.jpg"),
}
LAYOUTS = tuple(_MAKERS)
"""The names of the layouts."""
