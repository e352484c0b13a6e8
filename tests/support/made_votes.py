"""Made votes: csvs such as FER+'s, for drawn faces and made folders."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_edge.contract import EMOTIONS

_KINDS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
COLUMNS = ("file", *_KINDS, "contempt", "unknown", "NF")
OFFICIAL = ("Usage", "Image name", *COLUMNS[1:])
"""The columns of FER+'s fer2013new.csv."""


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def drawn_votes(count: int, seed: int = 0) -> np.ndarray:
    """Return (count, 7) votes, ten an image: most are for the emotion after the drawn one."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) + 1) % 7
    shares = np.full((count, 7), 0.05)
    shares[np.arange(count), labels] = 0.7
    return np.stack([rng.multinomial(10, row / row.sum()) for row in shares])


def write_drawn_votes(path: Path, votes: np.ndarray) -> Path:
    """Write votes for ``synthetic:COUNT``, which names its images ``synthetic NUMBER``."""
    rows = [[f"synthetic {number}", *row] for number, row in enumerate(votes.tolist())]
    return write_rows(path, ("file", *EMOTIONS), rows)
