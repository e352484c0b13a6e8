"""FER-2013 and data sets shaped like it: one csv, a tree of folders or a zip of it -> arrays.

These forms of the same data are read:

- the csv with the columns ``emotion`` (code 0-6), ``pixels`` and, optionally, ``Usage``; plain or
  gzip;
- the same csv in an archive, as the challenge handed it out: ``fer2013.tar.gz``, or a zip;
- folders ``[train|test|validation/]<emotion>/*.jpg``;
- a zip of such folders, read in place, with or without one folder around them.

Folder names are mapped to classes by name (see `Labelling`), never sorted into codes: their
alphabetical order is not the csv's. Where the classes are not the seven emotions, or are called
otherwise, a `Labelling` says so. Which share of FER-2013 an image belongs to is its *usage*: the
csv's column, or the start of a file name as in ``PublicTest_10130075.jpg``, or else the folder:
``train`` is Training, ``validation`` is PublicTest, ``test`` is PrivateTest beside a ``validation``
and PublicTest without one.
"""

import dataclasses
import hashlib
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fer_edge.contract import EMOTIONS, IMAGE_SIZE
from fer_edge.errors import DataError, ImageError
from fer_edge.image.read import IMAGE_SUFFIXES, Frame, read_image
from fer_train.data.archives import (
    TAR_SUFFIXES,
    OpenText,
    choose_csv,
    csvs_of_tar,
    csvs_of_zip,
)
from fer_train.data.csv_rows import UNPACKING_ERRORS, csv_rows
from fer_train.data.duplicates import (
    blank_images,
    conflicting_labels,
    duplicate_groups,
    identical_groups,
    spread,
)
from fer_train.data.emotions import LEFT_OUT, SEVEN, Labelling
from fer_train.data.form import COLORS, FER2013, Form
from fer_train.data.groups import read_groups
from fer_train.data.pixels import make_image
from fer_train.data.votes import VOTE_KINDS, Votes, read_votes

USAGES = ("Training", "PublicTest", "PrivateTest")
"""FER-2013's three shares, as its csv names them."""

MAX_PICTURE_BYTES = 64 * 1024
"""A 48 x 48 picture needs a tenth of it; what unpacks to more is refused before it is decoded."""

MAX_LARGE_PICTURE_BYTES = 32 * 2**20
"""The same for pictures of any size."""

MAX_ENTRIES = 1_000_000

_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
_DATA_SUFFIXES = (".csv", ".csv.gz", ".zip", *TAR_SUFFIXES)
_PIXELS = IMAGE_SIZE * IMAGE_SIZE
_LEVELS = {str(level): level for level in range(256)}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled faces in memory.

    Attributes:
        images: (N, S, S) uint8 grey or (N, S, S, 3) RGB, 0-255; S is 48 unless a `Form` said so.
        labels: (N,) int64, indices into ``label_names``.
        usage: (N,) str: one of `USAGES`, or "" where the source says nothing.
        names: (N,) str: where each image came from, such as ``test/sad/PublicTest_123.jpg`` or
            ``row 17``.
        label_names: What the labels mean.
        name: Short name of the source.
        left_out: How many images were left out, by the name of their label in the source.
        remade: How many images are not quite what the pictures were, by what was done to them.
        groups: (N,) str, the person or clip of each image; None where nobody has said.
        votes: (N, 10) int64, what people saw in each image, columns as
            `fer_train.data.votes.VOTE_KINDS`; None where no votes were read.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    usage: NDArray[np.str_]
    names: NDArray[np.str_]
    label_names: tuple[str, ...] = EMOTIONS
    name: str = ""
    votes: Votes | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    groups: NDArray[np.str_] | None = None
    remade: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the arrays belong together.

        Raises:
            ValueError: They do not.
        """
        count = len(self.images)
        shape = self.images.shape
        squares = len(shape) in (3, 4) and shape[1] == shape[2] and shape[3:] in ((), (3,))
        if not squares or self.images.dtype != np.uint8:
            raise ValueError(
                f"Expected images (N, S, S) or (N, S, S, 3) uint8, received {shape} "
                f"{self.images.dtype}"
            )
        for name in ("labels", "usage", "names"):
            if getattr(self, name).shape != (count,):
                raise ValueError(f"Expected {count} {name}, received {getattr(self, name).shape}")
        if self.votes is not None and self.votes.shape != (count, len(VOTE_KINDS)):
            raise ValueError(f"Expected votes for {count} images, received {self.votes.shape}")
        if self.groups is not None and self.groups.shape != (count,):
            raise ValueError(f"Expected {count} groups, received {self.groups.shape}")
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.label_names):
            raise ValueError(f"Expected labels from 0 to {len(self.label_names) - 1}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over label names, images, labels and usage: what two runs must share."""
        digest = hashlib.sha256("\n".join(self.label_names).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels, "<i8").data)
        digest.update("\n".join(self.usage).encode())
        return digest.hexdigest()

    def relabel(self, label_names: tuple[str, ...]) -> "Dataset":
        """Number the labels in the order of ``label_names``.

        Raises:
            ValueError: An image's label is not among them.
        """
        if label_names == self.label_names:
            return self
        codes = np.asarray(
            [label_names.index(name) if name in label_names else -1 for name in self.label_names],
            np.int64,
        )
        return dataclasses.replace(self, labels=codes[self.labels], label_names=label_names)

    def subset(self, index: ArrayLike) -> "Dataset":
        """Return the images at ``index``: (M,) integers, or (N,) booleans."""
        chosen = np.asarray(index)
        return dataclasses.replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            usage=self.usage[chosen],
            names=self.names[chosen],
            votes=None if self.votes is None else self.votes[chosen],
            groups=None if self.groups is None else self.groups[chosen],
        )


def load_dataset(
    source: str | Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    votes: str | Path | None = None,
    labelling: Labelling = SEVEN,
    groups: str | None = None,
    form: Form = FER2013,
) -> Dataset:
    """Read a data set; the same source gives the same order everywhere.

    Args:
        source: A ``.csv`` or ``.csv.gz``, a folder, a ``.zip``, or
            ``synthetic[:COUNT[,people=N][,clips=N]]``.
        limit: Keep that many images, drawn evenly over labels and usages.
        seed: Chooses the images that ``limit`` keeps, and draws the synthetic ones.
        votes: A csv of what people saw in the images, see `fer_train.data.votes`.
        labelling: The classes, and what names and numbers mean.
        groups: Tells the person or clip of each image, see `read_groups`.
        form: Size and colours of the images.

    Returns:
        The images in the order of the csv's rows or of the sorted names.

    Raises:
        DataError: The source is missing, unsafe or not such a data set, or votes or groups are not
            for it; names file and row.
        ValueError: ``limit`` is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"Expected a limit of at least 1, received {limit}")
    path = Path(source)
    ballots = None if votes is None else Path(votes)
    if votes and (unknown := [name for name in labelling.classes if name not in VOTE_KINDS]):
        raise DataError(
            f"Expected classes among {', '.join(VOTE_KINDS)} for the votes in {votes}, received "
            f"{', '.join(unknown)}, for which nobody could vote"
        )
    try:
        dataset = _load(path, limit, seed, ballots, labelling, form)
        if groups is None:
            return dataset
        return dataclasses.replace(dataset, groups=read_groups(groups, dataset.names))
    except OSError as error:
        raise DataError(
            f"{error.filename or path} cannot be read: {error.strerror or error}"
        ) from error


def _load(
    path: Path,
    limit: int | None,
    seed: int,
    ballots: Path | None,
    labelling: Labelling,
    form: Form,
) -> Dataset:
    text = str(path)
    if is_synthetic(text):
        drawn = _with_votes(_load_synthetic(text, seed, form), ballots, by_row=False)
        return _limited(_named(drawn, labelling), limit, seed)
    if not path.exists():
        raise DataError(f"{path} does not exist; expected a .csv, a folder, a .zip or 'synthetic'")
    if path.is_dir():
        files, most = folder_files(path), _most_bytes(form)
        return _load_tree(
            path,
            files,
            lambda name: _read_file(path / name, most),
            limit,
            seed,
            ballots,
            labelling,
            form,
        )
    if path.name.lower().endswith((".csv", ".csv.gz")):
        return _load_rows(path, limit, seed, ballots, labelling, form)
    if path.name.lower().endswith(TAR_SUFFIXES):
        opener = choose_csv(path, csvs_of_tar(path), _suits)
        return _load_rows(path, limit, seed, ballots, labelling, form, opener)
    if path.suffix.lower() == ".zip":
        return _load_zip(path, limit, seed, ballots, labelling, form)
    raise DataError(f"Expected a .csv, .csv.gz, .tar.gz, .zip or folder, received {path}")


def sample(
    labels: NDArray[np.int64], usage: NDArray[np.str_], limit: int, seed: int
) -> NDArray[np.int64]:
    """Choose ``limit`` of N images so that every label of every usage keeps its share.

    Args:
        labels: (N,) integers.
        usage: (N,) strings.
        limit: How many to keep; all are kept where there are no more.
        seed: Chooses within each share.

    Returns:
        (min(limit, N),) sorted indices.
    """
    if limit >= len(labels):
        return np.arange(len(labels))
    strata, counts = np.unique(
        np.unique(usage, return_inverse=True)[1] * (labels.max() + 1) + labels,
        return_inverse=True,
        return_counts=True,
    )[1:]
    shares = counts * (limit / len(labels))
    # Rare classes keep an image where the limit allows it: disgust is 1.5 % of FER-2013.
    quota = np.maximum(np.floor(shares), 1) if limit >= len(counts) else np.floor(shares)
    while (missing := int(limit - quota.sum())) != 0:
        # A stratum is never asked for more than it has, nor, in taking back, for its last image.
        gap = np.where(quota < counts, shares - quota, -np.inf)
        if missing < 0:
            gap = np.where(quota > 1, quota - shares, -np.inf)
        able = np.argsort(-gap, kind="stable")[: min(abs(missing), np.isfinite(gap).sum())]
        quota[able] += np.sign(missing)
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(strata == index))[: int(count)]
        for index, count in enumerate(quota)
    ]
    return np.sort(np.concatenate(chosen))


def summary(dataset: Dataset) -> dict[str, Any]:
    """Count what is in a data set, for people to look at before they train.

    Returns:
        ``images``, ``shape``, ``emotions`` and ``usages`` (name -> count, empty ones left out of
        ``usages``), ``emotions_by_usage``, ``digest``, ``blank``, and for ``identical`` and
        ``near`` (identical ones included) how many ``groups`` of more than one image there are,
        how many ``images`` in them, the ``largest`` group, and the groups ``across_usages`` and
        those with ``conflicting_labels``. All are plain Python values, ready for JSON.
    """
    usages = [usage for usage in (*USAGES, "") if (dataset.usage == usage).any()]

    def emotions(labels: NDArray[np.int64]) -> dict[str, int]:
        counts = np.bincount(labels, minlength=len(dataset.label_names)).tolist()
        return dict(zip(dataset.label_names, counts, strict=True))

    def copies(groups: NDArray[np.int64]) -> dict[str, int]:
        sizes = np.bincount(groups)
        across = spread(dataset.usage, groups) > 1
        conflicting = conflicting_labels(dataset.labels, groups)
        return {
            "groups": int((sizes > 1).sum()),
            "images": int(sizes[sizes > 1].sum()),
            "largest": int(sizes.max(initial=0)),
            "across_usages": len(np.unique(groups[across])),
            "conflicting_labels": len(np.unique(groups[conflicting])),
        }

    return {
        "name": dataset.name,
        "digest": dataset.digest,
        "images": len(dataset),
        "shape": list(dataset.images.shape),
        "emotions": emotions(dataset.labels),
        "usages": {usage: int((dataset.usage == usage).sum()) for usage in usages},
        "emotions_by_usage": {
            usage: emotions(dataset.labels[dataset.usage == usage]) for usage in usages
        },
        "blank": int(blank_images(dataset.images).sum()),
        "identical": copies(identical_groups(dataset.images)),
        "near": copies(duplicate_groups(dataset.images)),
    }


def _with_votes(dataset: Dataset, votes: Path | None, *, by_row: bool) -> Dataset:
    if votes is None:
        return dataset
    seen = read_votes(votes, dataset.names, dataset.usage, by_row=by_row)
    return dataclasses.replace(dataset, votes=seen)


def _named(dataset: Dataset, labelling: Labelling) -> Dataset:
    """Give a data set the classes of a labelling, whatever its labels are called by themselves."""
    meanings = [labelling.meaning_of_code(name) for name in dataset.label_names]
    if None in meanings:
        unknown = [
            name for name, means in zip(dataset.label_names, meanings, strict=True) if means is None
        ]
        raise DataError(
            f"Expected images of {', '.join(labelling.classes)} in {dataset.name}, received "
            f"{', '.join(unknown)}; say with --labels-map NAME=CLASS what they are"
        )
    codes = [labelling.classes.index(means) if means else -1 for means in meanings]
    labels = np.asarray(codes, np.int64)[dataset.labels]
    left_out = Counter(dataset.label_names[code] for code in dataset.labels[labels < 0])
    return dataclasses.replace(
        dataset.subset(labels >= 0) if left_out else dataset,
        labels=labels[labels >= 0],
        label_names=labelling.classes,
        left_out=dict(sorted(left_out.items())),
    )


def _limited(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    if limit is None or limit >= len(dataset):
        return dataset
    return dataset.subset(sample(dataset.labels, dataset.usage, limit, seed))


def is_synthetic(source: str) -> bool:
    """Tell whether a data set is drawn, not read."""
    return source.partition(":")[0] == "synthetic"


def _load_synthetic(source: str, seed: int, form: Form) -> Dataset:
    from fer_train.data.synthetic import (
        DEFAULT_COUNT,
        synthetic_clips,
        synthetic_faces,
        synthetic_usage,
    )

    _, _, text = source.partition(":")
    number, *parts = text.split(",")
    given = {name: value for name, _, value in (part.partition("=") for part in parts)}
    few = {
        name: int(value)
        for name, value in given.items()
        if name in ("people", "clips") and re.fullmatch("[1-9][0-9]{0,8}", value)
    }
    count = int(number) if re.fullmatch("[0-9]{1,9}", number) else 0
    if source == "synthetic":
        count = DEFAULT_COUNT
    if not 1 <= count <= MAX_ENTRIES or len(few) < len(parts):
        raise DataError(
            f"Expected synthetic:COUNT with a count from 1 to {MAX_ENTRIES}, perhaps with "
            f",people=N or ,clips=N behind, received {source}"
        )
    if few:
        images, labels, names = synthetic_clips(count, seed, form, **few)
    else:
        images, labels = synthetic_faces(count, seed, form)
        names = np.asarray([f"synthetic {index}" for index in range(count)])
    return Dataset(images, labels, synthetic_usage(count), names, name="synthetic")


def _load_rows(
    path: Path,
    limit: int | None,
    seed: int,
    votes: Path | None,
    labelling: Labelling,
    form: Form,
    text: OpenText | None = None,
) -> Dataset:
    rows = _with_votes(_load_csv(path, labelling, text), votes, by_row=True)
    dataset = _limited(_named(rows, labelling), limit, seed)
    if dataset.images.shape[1:] == form.image_shape:
        return dataset
    images, remade = _make_images(dataset.images, len(dataset), form)
    return dataclasses.replace(dataset, images=images, remade=remade)


def _make_images(
    frames: Iterable[Frame], count: int, form: Form
) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """Make images of pictures, one in memory at a time; count what that adds nothing to."""
    images, remade = np.empty((count, *form.image_shape), np.uint8), Counter[str]()
    for image, frame in zip(images, frames, strict=True):
        image[:] = make_image(frame, form)
        if min(frame.shape[:2]) < form.side:
            remade[f"enlarged to {form.side} x {form.side}, which shows no more"] += 1
        if form.color == "rgb" and _is_grey(frame):
            remade["grey, and the same in all three colours"] += 1
    return images, dict(sorted(remade.items()))


def _is_grey(frame: Frame) -> bool:
    return frame.ndim == 2 or not (frame != frame[..., :1]).any()


# --- csv ----------------------------------------------------------------------------------------


def _load_csv(path: Path, labelling: Labelling, text: OpenText | None = None) -> Dataset:
    """Read a csv, or that inside an archive, its labels as its cells write them."""
    images, usages, names = bytearray(), [], []
    labels: list[int] = []
    cells: dict[str, int] = {}
    rows = csv_rows(path, text)
    emotion, pixels, usage = _columns(next(rows, []), path)
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        where = f"{path}, row {number}"
        if len(row) <= max(emotion, pixels, usage or 0):
            raise DataError(
                f"{where}: expected the fields of the header, received {len(row)} fields"
            )
        names.append(f"row {number}")
        cell = row[emotion].strip()
        if cell not in cells and labelling.meaning_of_code(cell) is None:
            raise DataError(f"{where}: {_unknown_label(cell, labelling)}")
        labels.append(cells.setdefault(cell, len(cells)))
        usages.append("" if usage is None else _parse_usage(row[usage], where))
        images += _parse_pixels(row[pixels], where)
    if not labels:
        raise DataError(f"{path} has no rows; expected one image a row below the header")
    return Dataset(
        np.frombuffer(images, np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE),
        np.asarray(labels, np.int64),
        np.asarray(usages),
        np.asarray(names),
        tuple(cells),
        name=path.name.split(".")[0],
    )


def _columns(header: Sequence[str], path: Path) -> tuple[int, int, int | None]:
    found = {name.strip().lower(): index for index, name in enumerate(header)}
    if "emotion" not in found or "pixels" not in found:
        raise DataError(
            f"{path}: expected the columns emotion, pixels and perhaps Usage, received "
            f"{', '.join(name[:40] for name in header[:8]) or 'an empty file'}"
        )
    return found["emotion"], found["pixels"], found.get("usage")


def _unknown_label(text: str, labelling: Labelling) -> str:
    seven = labelling == SEVEN
    expected = f"an emotion from 0 to {len(EMOTIONS) - 1}" if seven else "a label that means"
    classes = "" if seven else f" {', '.join(labelling.classes)}"
    return f"expected {expected}{classes}, received {text[:40]!r}{labelling.advice(text[:40])}"


def _parse_usage(text: str, where: str) -> str:
    text = text.strip()
    if text and text not in USAGES:
        raise DataError(f"{where}: expected Usage {', '.join(USAGES)}, received {text[:40]!r}")
    return text


def _parse_pixels(text: str, where: str) -> bytes:
    # Digits between single spaces are parsed three times as fast by numpy, which alone would take
    # much else for a number.
    if text.encode().translate(None, b"0123456789") == b" " * (_PIXELS - 1):
        levels = np.fromstring(text, np.int64, sep=" ")
        if len(levels) == _PIXELS and levels.max() < len(_LEVELS):
            return levels.astype(np.uint8).tobytes()
    tokens = text.split()
    if len(tokens) != _PIXELS:
        raise DataError(f"{where}: expected {_PIXELS} pixels, received {len(tokens)}")
    try:
        return bytes(map(_LEVELS.__getitem__, tokens))
    except KeyError as error:
        raise DataError(
            f"{where}: expected pixels that are whole numbers from 0 to 255, received "
            f"{str(error.args[0])[:40]!r} as pixel {tokens.index(error.args[0]) + 1}"
        ) from error


# --- folders and zip ----------------------------------------------------------------------------


def _load_tree(
    path: Path,
    names: Sequence[str],
    read: Callable[[str], bytes],
    limit: int | None,
    seed: int,
    votes: Path | None,
    labelling: Labelling,
    form: Form,
) -> Dataset:
    """Read the pictures among ``names``: relative paths with ``/``, in any order."""
    pictures, left_out = _pictures(path, names, labelling)
    classes = labelling.classes
    labels = np.asarray([classes.index(means) for _, means, _ in pictures], np.int64)
    usage = np.asarray(_usages(pictures))
    chosen = np.asarray([name for name, _, _ in pictures])
    # Read for all pictures, however few are kept: each row of the file is to fit one of them.
    seen = None if votes is None else read_votes(votes, chosen, usage, by_row=False)
    if limit is not None:
        kept = sample(labels, usage, limit, seed)
        labels, usage, chosen = labels[kept], usage[kept], chosen[kept]
        seen = None if seen is None else seen[kept]
    frames = (_decode(read(str(name)), f"{path}: {name}", form) for name in chosen)
    images, remade = _make_images(frames, len(chosen), form)
    return Dataset(
        images,
        labels,
        usage,
        chosen,
        classes,
        name=path.stem or path.resolve().name,
        votes=seen,
        left_out=left_out,
        remade=remade,
    )


def _pictures(
    path: Path, names: Sequence[str], labelling: Labelling
) -> tuple[list[tuple[str, str, str]], dict[str, int]]:
    """Return (name, class, split or "") of every picture, by name, and how many are left out."""
    expected = (
        f"expected folders named {', '.join(labelling.classes)}, perhaps inside train, test and "
        "validation"
    )
    found, left_out = [], Counter[str]()
    for name in sorted(names):
        parts = PurePosixPath(name).parts
        if _is_clutter(parts):
            continue
        is_picture = _is_picture(name)
        folder = parts[-2] if len(parts) > 1 else ""
        means = labelling.meaning(folder) if folder else None
        if means is None:
            if is_picture:
                where = f"folder {folder!r}" if folder else "no folder"
                advice = labelling.advice(folder) if folder else ""
                raise DataError(f"{path}: {name} lies in {where}; {expected}{advice}")
            continue
        if not is_picture:
            raise DataError(
                f"{path}: {name} is not a picture "
                f"({', '.join(sorted(IMAGE_SUFFIXES))}); take it out of the folder"
            )
        if means == LEFT_OUT:
            left_out[folder] += 1
            continue
        split = split_of(parts[-3]) if len(parts) > 2 else ""
        found.append((name, means, split))
    if not found:
        inside = [name for name in sorted(names) if name.lower().endswith(_DATA_SUFFIXES)]
        advice = f"; it holds {', '.join(inside[:3])}: give that file alone" if inside else ""
        raise DataError(f"{path} holds no pictures; {expected}{advice}")
    return found, dict(sorted(left_out.items()))


def split_of(folder: str) -> str:
    """Return the split that a folder's name means: train, validation, test, or "".

    AffectNet calls them ``train_set`` and ``val_set``.
    """
    return _SPLITS.get(folder.lower().removesuffix("_set"), "")


def _is_clutter(parts: Sequence[str]) -> bool:
    """Tell what file managers leave behind from data."""
    return (
        any(part.startswith(".") for part in parts)
        or parts[0] == "__MACOSX"
        or parts[-1].lower() in ("thumbs.db", "desktop.ini")
    )


def _usages(pictures: Sequence[tuple[str, str, str]]) -> list[str]:
    has_validation = any(split == "validation" for _, _, split in pictures)
    of_split = {
        "": "",
        "train": "Training",
        "validation": "PublicTest",
        "test": "PrivateTest" if has_validation else "PublicTest",
    }
    usages = []
    for name, _, split in pictures:
        start = PurePosixPath(name).name.split("_", 1)[0]
        usages.append(start if start in USAGES else of_split[split])
    return usages


_SCALING = (
    "--image-size 48 scales pictures to that or another size, fer-train prepare cuts faces out of "
    "them"
)


class PictureFormError(DataError):
    """A picture is of another size or colour than images are, and nobody said to make it so."""


def _decode(content: bytes, where: str, form: Form) -> Frame:
    """Decode a picture with the runtime's own reader: (H, W, 3) uint8 BGR.

    Raises:
        PictureFormError: It is not 48 x 48, or not grey, where nothing else was said.
        DataError: It is no picture.
    """
    try:
        image_bgr = read_image(content)
    except ImageError as error:
        raise DataError(f"{where}: {error}") from error
    height, width = image_bgr.shape[:2]
    if form.size is None and (height, width) != (IMAGE_SIZE, IMAGE_SIZE):
        raise PictureFormError(
            f"{where}: expected {IMAGE_SIZE} x {IMAGE_SIZE} pixels, received {width} x {height}; "
            f"{_SCALING}"
        )
    if form.color is None and not _is_grey(image_bgr):
        raise PictureFormError(
            f"{where}: expected a grey picture, received one in colour; give --color gray, which "
            f"makes pictures grey, or --color {COLORS[1]}"
        )
    return image_bgr


def _most_bytes(form: Form) -> int:
    return MAX_PICTURE_BYTES if form.size is None else MAX_LARGE_PICTURE_BYTES


def folder_files(folder: Path) -> list[str]:
    """List all files below a folder but those of file managers, sorted, as ``a/b.jpg``.

    Raises:
        DataError: There are more than `MAX_ENTRIES`, or a folder in it cannot be read.
    """
    names: list[str] = []
    for parent, _, files in os.walk(folder, onerror=_refuse):
        inside = Path(parent).relative_to(folder)
        names += [(inside / file).as_posix() for file in files]
        if len(names) > MAX_ENTRIES:
            raise DataError(f"{folder} holds more than {MAX_ENTRIES} files; is it a data set?")
    return sorted(name for name in names if not _is_clutter(PurePosixPath(name).parts))


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error


def _read_file(file: Path, most: int) -> bytes:
    with file.open("rb") as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise _too_large(f"{file} is too large", most)
    return content


def _too_large(what: str, most: int) -> DataError:
    if most > MAX_PICTURE_BYTES:
        return DataError(f"{what}; expected a picture of at most {most} bytes")
    return PictureFormError(
        f"{what}; expected a 48 x 48 picture of at most {most} bytes; {_SCALING}"
    )


def _load_zip(
    path: Path,
    limit: int | None,
    seed: int,
    votes: Path | None,
    labelling: Labelling,
    form: Form,
) -> Dataset:
    most = _most_bytes(form)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _checked_entries(archive, path)
            csvs = csvs_of_zip(archive, entries)
            if csvs and not any(_is_picture(name) for name in entries):
                text = choose_csv(path, csvs, _suits)
                return _load_rows(path, limit, seed, votes, labelling, form, text)
            return _load_tree(
                path,
                list(entries),
                lambda name: _read_entry(archive, entries[name], most),
                limit,
                seed,
                votes,
                labelling,
                form,
            )
    # zipfile raises NotImplementedError for a format that it does not know.
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path} is not a whole zip archive: {error}") from error


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _suits(header: Sequence[str]) -> int:
    """Tell how well a csv suits: 2 with usages, 1 without, 0 if it holds no images."""
    names = {name.strip().lower() for name in header}
    return 0 if not {"emotion", "pixels"} <= names else 1 + ("usage" in names)


def _checked_entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files of an archive by name after checking that all of them are safe to read."""
    entries: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise DataError(f"{path} holds {len(infos)} entries; expected at most {MAX_ENTRIES}")
    for info in infos:
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        if ".." in parts or parts[:1] == ("/",) or (parts and ":" in parts[0]):
            raise DataError(f"{path}: entry {info.filename!r} points outside of the archive")
        if info.is_dir():
            continue
        if info.flag_bits & 0x1:
            raise DataError(f"{path}: entry {info.filename!r} is encrypted; decrypt the archive")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(f"{path}: entry {info.filename!r} is a link; pack the files themselves")
        if info.filename in entries:
            raise DataError(f"{path}: entry {info.filename!r} is there twice")
        entries[info.filename] = info
    return entries


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    where = f"{archive.filename}: entry {info.filename!r}"
    if info.file_size > most:
        raise _too_large(f"{where} unpacks to {info.file_size} bytes", most)
    try:
        # zipfile stops at the declared size and then finds the wrong checksum of a lying entry.
        return archive.read(info)
    except (*UNPACKING_ERRORS, OSError) as error:
        raise DataError(f"{where} cannot be unpacked: {error}") from error
