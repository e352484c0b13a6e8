"""Which images belong together, so that folds do not tear them apart: those of a person or a clip.

A model that trains on some frames of a clip, or on some pictures of a person, knows the others by
more than their emotion. Which images these are is told by a csv or by a pattern of their names.
"""

import re
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import DataError
from fer_train.data.csv_rows import ImageNames, csv_rows
from fer_train.data.group_patterns import GROUP_PATTERNS
from fer_train.data.pixels import grey_thumbnails

_GROUP_COLUMNS = ("group", "subject", "person", "clip", "video", "id")
_FILE_COLUMNS = ("file", "name", "image", "path")
_SHOWN = 3
_LEAST_FRAMES = 3
"""Images with one name but for a number that look like a clip."""
_COMPARED = 2000
_ALIKE = 0.25
"""By how much neighbours' correlation exceeds that of other images where they look like frames."""

Names = NDArray[np.str_]


def read_groups(groups: str, names: Names) -> Names:
    """Tell the group of each image.

    Args:
        groups: One of `GROUP_PATTERNS`, a csv with the columns file and group (or subject, person,
            clip), or a regular expression: of its match in an image's name the first group counts,
            or all of it.
        names: (N,) of the images, such as ``happy/S010_004_00000017.png``.

    Returns:
        (N,) str, never empty.

    Raises:
        DataError: It is none of these, or tells nothing of some images.
    """
    if groups.lower().endswith((".csv", ".csv.gz")):
        found = _groups_of_file(Path(groups), names)
    else:
        found = _groups_by_pattern(groups, names)
    if missing := [name for name, group in zip(names.tolist(), found, strict=True) if not group]:
        raise DataError(
            f"Expected a group of each image from {groups}, received none of {len(missing):,} of "
            f"{len(names):,}, such as {', '.join(missing[:_SHOWN])}"
        )
    return np.asarray(found, np.str_)


def _groups_by_pattern(groups: str, names: Names) -> list[str]:
    try:
        pattern = re.compile(GROUP_PATTERNS.get(groups.lower(), groups), re.IGNORECASE)
    except re.error as error:
        raise DataError(
            f"Expected groups of {', '.join(GROUP_PATTERNS)}, a .csv, or a regular expression, "
            f"received {groups!r} ({error})"
        ) from error
    matches = [pattern.search(name) for name in names.tolist()]
    return [(match[1 if pattern.groups else 0] or "") if match else "" for match in matches]


def _groups_of_file(path: Path, names: Names) -> list[str]:
    rows = csv_rows(path)
    header = [name.strip().lower() for name in next(rows, [])]
    file, group = (
        next((header.index(name) for name in wanted if name in header), None)
        for wanted in (_FILE_COLUMNS, _GROUP_COLUMNS)
    )
    if file is None or group is None:
        raise DataError(
            f"{path}: expected the columns file and group, received "
            f"{', '.join(name[:40] for name in header[:8]) or 'an empty file'}"
        )
    places = ImageNames(names)
    found = [""] * len(names)
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        if len(row) <= max(file, group):
            raise DataError(
                f"{path}, row {number}: expected the fields of the header, received {len(row)}"
            )
        fitting = places.fitting(row[file])
        if len(fitting) > 1:
            raise DataError(
                f"{path}, row {number}: expected the path of one image, received "
                f"{row[file][:80]!r}, which fits {len(fitting)}"
            )
        # A list of the whole data set may name images that are not here.
        for place in fitting:
            told = row[group].strip()
            if found[place] not in ("", told):
                raise DataError(
                    f"{path}, row {number}: expected one group of {row[file][:80]!r}, received "
                    f"{found[place][:40]!r} and {told[:40]!r}"
                )
            found[place] = told
    return found


def suspected_groups(
    names: Names, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> str | None:
    """Say why images seem to be of few people or clips, or None where they do not.

    Names speak for it where they are as in a data set of known people, or numbered within many
    prefixes. Images do where each is far more like the one before it than like others of its
    class.

    Args:
        names: (N,) of the images.
        images: (N, H, W) or (N, H, W, 3) uint8, in the order of the names.
        labels: (N,) classes.
    """
    paths = [PurePosixPath(name) for name in names.tolist()]
    for known in ("ckplus", "jaffe", "kdef"):
        pattern = re.compile(GROUP_PATTERNS[known], re.IGNORECASE)
        if sum(pattern.search(path.name) is not None for path in paths) > 0.9 * len(paths):
            return f"names such as {paths[0].name} tell people (--groups {known})"
    frames = re.compile(GROUP_PATTERNS["frames"], re.IGNORECASE)
    clips = Counter(match[1] for path in paths if (match := frames.search(path.name)))
    long = {clip: count for clip, count in clips.items() if count >= _LEAST_FRAMES}
    folders = len({path.parent for path in paths})
    if len(long) > max(folders, 1) and sum(long.values()) > len(paths) / 2:
        return (
            f"names look like frames of {len(clips):,} clips, such as {paths[0].name} "
            "(--groups frames)"
        )
    if _neighbours_alike(images, labels):
        return "each is far more like the one before it than like others of its class"
    return None


def _neighbours_alike(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> bool:
    """Tell whether images of a class resemble their neighbours, by the correlation of pixels."""
    same = np.flatnonzero(labels[1:] == labels[:-1])
    if same.size < 30:
        return False
    rng = np.random.default_rng(0)
    first = rng.permutation(same)[:_COMPARED]
    order = rng.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    pairs = np.flatnonzero(labels[by_class][1:] == labels[by_class][:-1])
    pairs = rng.permutation(pairs)[:_COMPARED]
    near = _correlations(images[first], images[first + 1])
    far = _correlations(images[by_class[pairs]], images[by_class[pairs + 1]])
    return bool(np.median(near) - np.median(far) > _ALIKE)


def _correlations(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float32]:
    def normalised(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        flat = grey_thumbnails(images).reshape(len(images), -1).astype(np.float32)
        flat -= flat.mean(1, keepdims=True)
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
        return flat

    return np.asarray((normalised(one) * normalised(other)).sum(axis=1), np.float32)
