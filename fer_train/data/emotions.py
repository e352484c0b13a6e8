"""What the names and numbers in a data set mean: the classes that a model tells apart."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from fer_edge.contract import EMOTIONS
from fer_edge.errors import DataError

SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
}
"""Other names of the seven emotions; case does not matter."""

CONTEMPT = "contempt"
_KNOWN = (*EMOTIONS, CONTEMPT)
"""Emotions that many data sets have, whichever of them a model is to know."""

LEFT_OUT = ""
"""What a name means whose images are left out."""


def _numbered(*emotions: str, first: int = 0) -> tuple[str, ...]:
    return tuple(f"{code}={emotion}" for code, emotion in enumerate(emotions, first))


_LETTERS = ("AN=angry", "DI=disgust", "HA=happy", "NE=neutral", "SA=sad", "SU=surprise")

LABEL_PRESETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fer2013": _numbered(*EMOTIONS),
        "rafdb": _numbered(
            *("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"), first=1
        ),
        "affectnet": _numbered(
            *("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", CONTEMPT),
            # None, uncertain, no face.
            *[LEFT_OUT] * 3,
        ),
        "ferplus": _numbered(
            *("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", CONTEMPT),
            # Unknown, no face.
            *[LEFT_OUT] * 2,
        ),
        "ckplus": _numbered(
            "neutral", "angry", CONTEMPT, "disgust", "fear", "happy", "sad", "surprise"
        ),
        "jaffe": (*_LETTERS, "FE=fear"),
        "kdef": (*_LETTERS, "AF=fear"),
    }
)
"""What the numbers or letters of well-known data sets mean, as their authors say."""


def emotion_of(name: str) -> str | None:
    """Return the one of the seven emotions that a name means, or None."""
    lowered = name.strip().lower()
    emotion = SYNONYMS.get(lowered, lowered)
    return emotion if emotion in EMOTIONS else None


def class_name(name: str) -> str:
    """Return a class by its usual name: that of an emotion where it means one, else as it is.

    Raises:
        DataError: It is empty, or cannot stand in a list of names.
    """
    stripped = name.strip()
    if not stripped or set(stripped) & set(",=") or not stripped.isprintable():
        raise DataError(f"Expected the name of a class without , and =, received {name!r}")
    return CONTEMPT if stripped.lower() == CONTEMPT else emotion_of(stripped) or stripped


@dataclass(frozen=True)
class Labelling:
    """Which classes there are, and which names in a data set mean them.

    Attributes:
        classes: In the order of the labels.
        names: What names and numbers mean beside the classes' own names and `SYNONYMS`: one of the
            classes or `LEFT_OUT`, by the name as `_folded` writes it.
        chosen: Whether somebody has named the classes: images of other emotions are left out then.
    """

    classes: tuple[str, ...] = EMOTIONS
    names: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = False

    def meaning(self, name: str) -> str | None:
        """Return the class that a name means, `LEFT_OUT`, or None where nobody has said."""
        folded = _folded(name)
        emotion = SYNONYMS.get(folded, folded)
        for known in (folded, emotion):
            if known in self.names:
                return self.names[known]
            if known in self._by_name:
                return self._by_name[known]
        return LEFT_OUT if self.chosen and emotion in _KNOWN else None

    def meaning_of_code(self, text: str) -> str | None:
        """Return the class that a csv's cell means: a name, or a number, FER-2013's unless told."""
        found = self.meaning(text)
        if found is None and not any(name.isdecimal() for name in self.names):
            number = _folded(text)
            codes = {str(code): emotion for code, emotion in enumerate(EMOTIONS)}
            return self.meaning(codes[number]) if number in codes else None
        return found

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {_folded(name): name for name in self.classes}


SEVEN = Labelling()
"""The seven emotions, by their names and FER-2013's codes."""


def make_labelling(classes: Sequence[str] = (), labels_map: Sequence[str] = ()) -> Labelling:
    """Make the labelling that ``--classes`` and ``--labels-map`` mean.

    Args:
        classes: Names of the classes in order. Without any they are the seven emotions and what
            else ``labels_map`` names, or that alone where it names none of the seven.
        labels_map: ``NAME=CLASS`` each, or ``NAME=`` for what is left out.

    Raises:
        DataError: A name stands twice with different meanings, or means no class.
    """
    names: dict[str, str] = {}
    for pair in labels_map:
        name, equals, meant = pair.rpartition("=")
        if not equals or not name.strip():
            raise DataError(f"Expected NAME=CLASS, such as 1=surprise, received {pair!r}")
        means = class_name(meant) if meant.strip() else LEFT_OUT
        if names.setdefault(_folded(name), means) != means:
            raise DataError(f"Expected one meaning of {name.strip()!r}, received two")
    if not classes:
        meant_by_map = list(dict.fromkeys(filter(None, names.values())))
        usual = EMOTIONS if not meant_by_map or set(meant_by_map) & set(EMOTIONS) else ()
        return Labelling(tuple(dict.fromkeys((*usual, *meant_by_map))), names)
    chosen = tuple(map(class_name, classes))
    if len(set(map(_folded, chosen))) != len(chosen):
        raise DataError(f"Expected classes that differ, received {', '.join(classes)}")
    as_chosen = {_folded(name): name for name in chosen}
    names = {name: as_chosen.get(_folded(means), means) for name, means in names.items()}
    meant_by_map = list(dict.fromkeys(filter(None, names.values())))
    if others := [name for name in meant_by_map if name not in (*chosen, *_KNOWN)]:
        raise DataError(
            f"Expected the labels map to name the classes {', '.join(chosen)}, received "
            f"{', '.join(others)}"
        )
    kept = {name: means if means in chosen else LEFT_OUT for name, means in names.items()}
    return Labelling(chosen, kept, chosen=True)


def parse_labels_map(text: str) -> tuple[str, ...]:
    """Read ``--labels-map``: a TOML file, or presets and ``NAME=CLASS`` with commas.

    Returns:
        ``NAME=CLASS`` each.

    Raises:
        DataError: It is neither, or the file is not of texts by name.
    """
    path = Path(text)
    if path.suffix.lower() == ".toml":
        return _pairs_of_file(path)
    pairs: list[str] = []
    for part in filter(None, map(str.strip, text.split(","))):
        preset = LABEL_PRESETS.get(part.lower().replace("-", "").replace("_", ""))
        if preset is None and "=" not in part:
            raise DataError(
                f"Expected a file ending in .toml, NAME=CLASS, or one of "
                f"{', '.join(LABEL_PRESETS)}, received {part!r}"
            )
        pairs += preset or [part]
    if not pairs:
        raise DataError("Expected a labels map such as 1=surprise,2=fear, received nothing")
    return tuple(pairs)


def _pairs_of_file(path: Path) -> tuple[str, ...]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"Expected a TOML file of labels, received {path}: {error}") from error
    for name, meant in document.items():
        if not isinstance(meant, str) or "," in name:
            raise DataError(
                f'{path}: expected lines such as "1" = "surprise", of names without commas, '
                f"received {name} = {meant!r}"
            )
    if not document:
        raise DataError(f'{path}: expected lines such as "1" = "surprise", received none')
    return tuple(f"{name}={meant}" for name, meant in document.items())


def _folded(name: str) -> str:
    """Return a name as names are compared: without case, and numbers without leading zeros."""
    folded = name.strip().casefold()
    return str(int(folded)) if folded.isascii() and folded.isdecimal() else folded
