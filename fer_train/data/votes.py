"""Votes: what each of several people saw in an image, read from a csv beside a data set.

Two forms are read, plain or gzip:

- FER+'s own ``fer2013new.csv`` (Barsoum et al., *Training Deep Networks for Facial Expression
  Recognition with Crowd-Sourced Label Distribution*, ICMI 2016), which has a row for each row of
  FER-2013's csv. Beside the csv it is read row by row. The images of the well-known archive do not
  tell their row; ``fer2013-rows.csv.gz``, shipped with this package, does: line by line, for each
  row of the csv, the emotion's code and the number in the name ``Training_NUMBER.jpg`` or
  ``PublicTest_NUMBER.jpg``, of both images where two are copies. They were found by comparing
  pixels; a line is empty where none was found.
- Any csv with a column ``file``, the image's path in the data set, and a column for each emotion,
  under any of its names; columns for contempt, unknown and NF (no face) may follow.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from fer_edge.contract import EMOTIONS
from fer_edge.errors import DataError
from fer_train.data.csv_rows import ImageNames, csv_rows
from fer_train.data.emotions import emotion_of

OTHER_VOTES = ("contempt", "unknown", "no face")
VOTE_KINDS = (*EMOTIONS, *OTHER_VOTES)
"""What people could see in an image: the columns of `Votes`."""

LEAST_TRAINING_VOTES = 4
"""Votes that an image needs to train, single ones not counted."""

FER2013_ROWS = 35_887
_FER2013_TRAINING = 28_709
_ROWS_OF_NAMES = Path(__file__).parent / "fer2013-rows.csv.gz"
_MOST_VOTES = 1_000_000

Names = NDArray[np.str_]
Votes = NDArray[np.int64]
"""(N, 10) numbers of votes, columns as `VOTE_KINDS`; a row of zeros where none are known."""


def read_votes(path: Path, names: Names, usage: Names, *, by_row: bool) -> Votes:
    """Read the votes for the images of a whole data set.

    Args:
        path: The csv of votes.
        names: Of all N images, such as ``train/sad/Training_123.jpg``.
        usage: Of all images, empty strings where it is not known.
        by_row: Whether the images are the rows of FER-2013's csv, in its order.

    Returns:
        (N, 10) int64.

    Raises:
        DataError: The file is not as described, or does not belong to the images; names the row.
        OSError: It cannot be read.
    """
    rows = csv_rows(path)
    header = [name.strip().lower() for name in next(rows, [])]
    columns = _vote_columns(header, path)
    table = _Table(
        path, header, columns, [(number, row) for number, row in enumerate(rows, 1) if row]
    )
    if "image name" in header:
        return _official_votes(table, names, usage, by_row)
    if "file" not in header:
        raise DataError(
            f"{path}: expected the columns of fer2013new.csv, or a column file and one for each "
            f"emotion, received {_shown(header)}"
        )
    if by_row:
        raise DataError(
            f"{path}: expected fer2013new.csv beside a csv of images, which have no file names, "
            "received a table by file"
        )
    return _votes_by_file(table, names)


def emotion_votes(votes: Votes, labels: Sequence[str]) -> Votes:
    """Return the votes for emotions, by name: (N, K); none for what nobody could vote for."""
    columns = [votes[:, VOTE_KINDS.index(label)] if label in VOTE_KINDS else 0 for label in labels]
    return np.stack([np.broadcast_to(column, len(votes)) for column in columns], axis=1)


@dataclass(frozen=True)
class VoteTargets:
    """What a network is taught of votes.

    Attributes:
        shares: (N, K) float32 shares of an image's votes, single ones left out; 0 where it does
            not train.
        trains: (N,) bool: which images train.
        reasons: How many images do not train, by reason.
    """

    shares: NDArray[np.float32]
    trains: NDArray[np.bool_]
    reasons: Mapping[str, int]


def vote_targets(votes: Votes, labels: Sequence[str]) -> VoteTargets:
    """Make targets of votes.

    A single vote is dropped, as FER+'s authors do. An image does not train of which nobody's vote
    is known, of which more people saw something else than any of the emotions, or of which fewer
    than `LEAST_TRAINING_VOTES` are left.

    Args:
        votes: (N, 10).
        labels: The K emotions.
    """
    several = np.where(votes == 1, 0, votes)
    own = emotion_votes(several, labels)
    seen = own.sum(axis=1)
    unknown = votes.sum(axis=1) == 0
    elsewhere = ~unknown & (several.sum(axis=1) - seen > seen)
    few = ~unknown & ~elsewhere & (seen < LEAST_TRAINING_VOTES)
    trains = ~(unknown | elsewhere | few)
    shares = np.where(trains[:, None], own / np.maximum(seen, 1)[:, None], 0)
    reasons = {
        "without known votes": int(unknown.sum()),
        f"mostly seen as none of the {len(labels)} emotions": int(elsewhere.sum()),
        f"of fewer than {LEAST_TRAINING_VOTES} votes without single ones": int(few.sum()),
    }
    return VoteTargets(shares.astype(np.float32), trains, reasons)


@dataclass(frozen=True)
class _Table:
    """A csv of votes: its header in small letters, where each kind stands, its numbered rows."""

    path: Path
    header: Sequence[str]
    columns: Mapping[str, int]
    rows: Sequence[tuple[int, Sequence[str]]]

    def where(self, place: int) -> str:
        """Name a row, by its place from 0, as people count them below the header."""
        return f"{self.path}, row {self.rows[place][0]}"

    def cell(self, place: int, name: str) -> str:
        """Return a cell of a row that is as long as the header."""
        return self.rows[place][1][self.header.index(name)].strip()

    def counts(self, place: int) -> list[int]:
        """Return the votes of a row in the order of `VOTE_KINDS`."""
        row, where = self.rows[place][1], self.where(place)
        if len(row) != len(self.header):
            raise DataError(
                f"{where}: expected the {len(self.header)} fields of the header, received "
                f"{len(row)}"
            )
        counts = [
            _count(row[self.columns[kind]], f"{where}: {kind}") if kind in self.columns else 0
            for kind in VOTE_KINDS
        ]
        if not any(counts):
            raise DataError(f"{where}: expected at least one vote, received none")
        return counts


def _count(text: str, where: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= _MOST_VOTES):
        raise DataError(f"{where}: expected a number of votes from 0, received {text[:40]!r}")
    return int(text)


def _vote_columns(header: Sequence[str], path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, name in enumerate(header):
        kind = emotion_of(name) or {"nf": "no face", "noface": "no face"}.get(name, name)
        if kind not in VOTE_KINDS:
            continue
        if kind in found:
            raise DataError(f"{path}: expected one column of {kind}, received two")
        found[kind] = place
    if missing := [emotion for emotion in EMOTIONS if emotion not in found]:
        raise DataError(
            f"{path}: expected a column for each emotion, received none for {', '.join(missing)} "
            f"among {_shown(header)}"
        )
    return found


def _shown(header: Sequence[str]) -> str:
    return ", ".join(name[:40] for name in header[:16]) or "an empty file"


def _official_votes(table: _Table, names: Names, usage: Names, by_row: bool) -> Votes:
    expected = len(names) if by_row else FER2013_ROWS
    if len(table.rows) != expected:
        of_what = "for each image of the csv" if by_row else "for each row of FER-2013's csv"
        raise DataError(
            f"{table.path}: expected {expected} rows, one {of_what}, received {len(table.rows)}"
        )
    votes = np.asarray([table.counts(place) for place in range(expected)], np.int64)
    if by_row:
        places = list(range(expected))
    else:
        places = archive_rows(names)
        if max(places, default=-1) < 0:
            raise DataError(
                f"{table.path}: expected images named as in FER-2013's archive, such as "
                f"train/angry/Training_10118481.jpg, received {names[0] if len(names) else 'none'}"
                "; give votes in a csv with a column file"
            )
    if "usage" in table.header:
        for place, share in zip(places, usage, strict=True):
            if place >= 0 and share and table.cell(place, "usage") != share:
                raise DataError(
                    f"{table.where(place)}: expected the usage of its image, {share}, received "
                    f"{table.cell(place, 'usage')[:40]!r}; are both files of the same rows?"
                )
    known = np.asarray(places, np.int64)
    return np.where((known >= 0)[:, None], votes[known], 0)


def archive_rows(names: Iterable[str]) -> list[int]:
    """Return the rows of FER-2013's csv of images named as in its archive; -1 of any other name.

    Args:
        names: Such as ``train/angry/Training_10118481.jpg``.
    """
    rows = csv_rows(_ROWS_OF_NAMES)
    next(rows)
    known: dict[tuple[str, str], int] = {}
    for row, pairs in enumerate(rows):
        share = "Training" if row < _FER2013_TRAINING else "PublicTest"
        for code, number in zip(pairs[::2], pairs[1::2], strict=True):
            # Two numbers of the archive stand under two emotions each.
            known[EMOTIONS[int(code)], f"{share}_{number}"] = row
    paths = [PurePosixPath(name) for name in names]
    return [known.get((emotion_of(path.parent.name) or "", path.stem), -1) for path in paths]


def _votes_by_file(table: _Table, names: Names) -> Votes:
    votes = np.zeros((len(names), len(VOTE_KINDS)), np.int64)
    places = ImageNames(names.tolist())
    for row in range(len(table.rows)):
        counts = table.counts(row)
        file = table.cell(row, "file")
        fitting = places.fitting(file)
        if len(fitting) != 1:
            fits = "several images" if fitting else "no image"
            raise DataError(
                f"{table.where(row)}: expected the path of an image in the data set, such as "
                f"{names[0] if len(names) else 'none'}, received {file[:80]!r}, which fits {fits}"
            )
        if votes[fitting[0]].any():
            raise DataError(
                f"{table.where(row)}: expected each image once, received {file[:80]!r} again"
            )
        votes[fitting[0]] = counts
    return votes
