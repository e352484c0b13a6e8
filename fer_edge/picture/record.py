"""What became of a picture, and of many."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fer_edge.inference.classifier import FaceResult
from fer_edge.records import counted


@dataclass(frozen=True)
class Record:
    """What became of one picture.

    Attributes:
        image: Its name as given.
        model: File name of the model used.
        width: Pixels, None where the picture could not be read.
        height: Pixels, None where the picture could not be read.
        status: ``ok``, ``no_face`` or ``error``.
        error: Why it failed, or None. A picture that is damaged, or could not be drawn, has its
            faces all the same.
        faces: Its faces, largest first.
        mirror: Whether probabilities are means over each face and its mirror image.
        prior: Power of the training prior that probabilities were divided by.
    """

    image: str
    model: str
    width: int | None = None
    height: int | None = None
    status: Literal["ok", "no_face", "error"] = "ok"
    error: str | None = None
    faces: Sequence[FaceResult] = ()
    mirror: bool = False
    prior: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return {
            "image": self.image,
            "width": self.width,
            "height": self.height,
            "status": self.status,
            "error": self.error,
            "faces": [face.to_dict() for face in self.faces],
            "model": self.model,
            "mirror": self.mirror,
            "prior": self.prior,
        }


class Tally:
    """What became of many pictures, counted.

    Attributes:
        pictures: Pictures.
        failed: Pictures that could not be read, are damaged or could not be written.
        empty: Pictures that were read and in which no face was found.
        emotions: Faces of each emotion.
    """

    def __init__(self) -> None:
        """Begin at nothing."""
        self.pictures = self.failed = self.empty = 0
        self.emotions: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        """Count a picture."""
        self.pictures += 1
        self.failed += record.status == "error"
        self.empty += record.status == "no_face"
        self.emotions.update(face.emotion for face in record.faces)

    def summary(self) -> str:
        """Return all of it in a line."""
        parts = [counted(self.pictures, "picture"), counted(self.emotions.total(), "face")]
        if self.emotions:
            listed = ", ".join(f"{label} {count}" for label, count in self.emotions.most_common())
            parts[-1] += f" ({listed})"
        if self.empty:
            parts.append(f"{self.empty} without a face")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)
