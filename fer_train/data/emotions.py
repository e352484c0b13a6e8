"""What the names and numbers in a data set mean: the classes that a model tells apart."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from fer_edge.contract import EMOTIONS
from fer_edge.errors import DataError
from fer_train.data.languages import LANGUAGE_CODES, LANGUAGES, folded, languages_with, words_of

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
        names: What names and numbers mean beside the classes' own names: one of the classes or
            `LEFT_OUT`, by the name as `folded` writes it.
        chosen: Whether somebody has named the classes: images of other emotions are left out then.
        synonyms: Other names of emotions, folded too; whether an emotion is a class, they do not
            say.
    """

    classes: tuple[str, ...] = EMOTIONS
    names: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = False
    synonyms: Mapping[str, str] = field(default_factory=lambda: SYNONYMS)

    def meaning(self, name: str) -> str | None:
        """Return the class that a name means, `LEFT_OUT`, or None where nobody has said."""
        plain = folded(name)
        emotion = self.synonyms.get(plain, plain)
        for known in (plain, emotion):
            if known in self.names:
                return self.names[known]
            if known in self._by_name:
                return self._by_name[known]
        return LEFT_OUT if self.chosen and emotion in _KNOWN else None

    def meaning_of_code(self, text: str) -> str | None:
        """Return the class that a csv's cell means: a name, or a number, FER-2013's unless told."""
        found = self.meaning(text)
        if found is None and not any(name.isdecimal() for name in self.names):
            number = folded(text)
            codes = {str(code): emotion for code, emotion in enumerate(EMOTIONS)}
            return self.meaning(codes[number]) if number in codes else None
        return found

    def advice(self, name: str) -> str:
        """Return what to do about a name that means nothing here, for the end of a message."""
        return (
            f"; --labels-map {name!r}=CLASS says what it is, --labels-map {name!r}= leaves it out, "
            f"--classes names all classes{language_advice(name)}"
        )

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {folded(name): name for name in self.classes}


def language_advice(name: str) -> str:
    """Return which languages know a name, for the end of a message, or ""."""
    languages = languages_with(name)
    if not languages:
        return ""
    emotions = dict.fromkeys(words_of(language)[folded(name)] for language in languages)
    return f"; --labels-map {' or '.join(languages)} knows it as {' or '.join(emotions)}"


SEVEN = Labelling()
"""The seven emotions, by their names and FER-2013's codes."""


def make_labelling(classes: Sequence[str] = (), labels_map: Sequence[str] = ()) -> Labelling:
    """Make the labelling that ``--classes`` and ``--labels-map`` mean.

    Args:
        classes: Names of the classes in order. Without any they are the seven emotions and what
            else ``labels_map`` names, or that alone where it names no emotion.
        labels_map: ``NAME=CLASS`` each, ``NAME=`` for what is left out, or one of `LANGUAGES`,
            whose names of the emotions count then. They make no class: contempt is one where
            somebody has said so.

    Raises:
        DataError: A name stands twice with different meanings, or means no class.
    """
    synonyms = _synonyms([each for each in labels_map if each in LANGUAGES])
    names: dict[str, str] = {}
    for pair in labels_map:
        if pair in LANGUAGES:
            continue
        name, equals, meant = pair.rpartition("=")
        if not equals or not name.strip():
            raise DataError(f"Expected NAME=CLASS, such as 1=surprise, received {pair!r}")
        means = class_name(meant) if meant.strip() else LEFT_OUT
        if names.setdefault(folded(name), means) != means:
            raise DataError(f"Expected one meaning of {name.strip()!r}, received two")
    if not classes:
        meant_by_map = list(dict.fromkeys(filter(None, names.values())))
        usual = EMOTIONS if not meant_by_map or set(meant_by_map) & set(_KNOWN) else ()
        return Labelling(tuple(dict.fromkeys((*usual, *meant_by_map))), names, synonyms=synonyms)
    chosen = tuple(map(class_name, classes))
    if len(set(map(folded, chosen))) != len(chosen):
        raise DataError(f"Expected classes that differ, received {', '.join(classes)}")
    as_chosen = {folded(name): name for name in chosen}
    names = {name: as_chosen.get(folded(means), means) for name, means in names.items()}
    meant_by_map = list(dict.fromkeys(filter(None, names.values())))
    if others := [name for name in meant_by_map if name not in (*chosen, *_KNOWN)]:
        raise DataError(
            f"Expected the labels map to name the classes {', '.join(chosen)}, received "
            f"{', '.join(others)}"
        )
    kept = {name: means if means in chosen else LEFT_OUT for name, means in names.items()}
    return Labelling(chosen, kept, chosen=True, synonyms=synonyms)


def _synonyms(languages: Sequence[str]) -> Mapping[str, str]:
    """Return other names of emotions; what two languages call by one name is none of it."""
    found = dict(SYNONYMS)
    two = set()
    for language in languages:
        for name, emotion in words_of(language).items():
            if found.setdefault(name, emotion) != emotion:
                two.add(name)
    return {name: emotion for name, emotion in found.items() if name not in two}


def parse_labels_map(text: str) -> tuple[str, ...]:
    """Read ``--labels-map``: TOML files, names of data sets or languages, ``NAME=CLASS``; commas.

    Returns:
        ``NAME=CLASS`` each, or the name of a language.

    Raises:
        DataError: It is none of these, or a file is not of texts by name.
    """
    pairs: list[str] = []
    for part in filter(None, map(str.strip, text.split(","))):
        known = folded(part).replace("-", "").replace("_", "")
        if part.lower().endswith(".toml") and "=" not in part:
            pairs += _pairs_of_file(Path(part))
        elif known in LABEL_PRESETS:
            pairs += LABEL_PRESETS[known]
        elif "=" in part:
            pairs.append(part)
        elif language := _language(known):
            pairs.append(language)
        else:
            raise DataError(_not_a_map(part))
    if not pairs:
        raise DataError("Expected a labels map such as 1=surprise,2=fear, received nothing")
    return tuple(pairs)


def _language(name: str) -> str | None:
    return LANGUAGE_CODES.get(name, name if name in LANGUAGES else None)


def _not_a_map(part: str) -> str:
    """Say what is wrong with a part of a labels map, and what may have been meant."""
    advice = ""
    if near := difflib.get_close_matches(folded(part), [*LABEL_PRESETS, *LANGUAGES], n=1):
        advice = f"; did you mean {near[0]}?"
    elif languages := languages_with(part):
        advice = f"; for the names of a language give its name, here {' or '.join(languages)}"
    return (
        "Expected a file ending in .toml, NAME=CLASS, a data set "
        f"({', '.join(LABEL_PRESETS)}) or a language ({', '.join(LANGUAGES)}), received "
        f"{part!r}{advice}"
    )


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
