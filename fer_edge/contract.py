"""What an exported model promises, written once for the trainer and the runtime.

A classifier of ours is one ONNX file whose input ``image`` is float32 (N, 48, 48, 1), grey, 0-255,
and whose output ``probabilities`` is float32 (N, 7) with rows that sum to 1, unless it was trained
on other sizes, colours or classes; scaling, channel copies and any ImageNet preprocessing are
inside the graph. Whatever else a user of the file must
know stands in its metadata as a `ModelSpec`, or as a `DetectorSpec` where the file finds faces.

Models of other makers are described by the same names: `DESCRIPTION` is the one table from which
the command line's flags, the keys of ``MODEL.toml``, the arguments of `Classifier` and the metadata
are read. This module needs the standard library alone.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypedDict, TypeVar, cast, get_args

from fer_edge.errors import ModelError

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The seven emotions in the order of FER-2013's csv codes 0-6: the label order everywhere."""

INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"
IMAGE_SIZE = 48
"""Side of FER-2013's square grey images, pixels."""

SCHEMA_VERSION = 2
METADATA_PREFIX = "fer_edge."

POINTS = ("eye_left", "eye_right", "nose", "mouth_left", "mouth_right")
"""A detector's landmarks in their order; left and right as seen in the picture."""

AFFECT = ("valence", "arousal", "dominance")
"""Dimensions of affect that are known by their names: numbers, never classes."""

DEFAULT_PRIOR_POWER = 0.2
"""Power of the training prior that probabilities are divided by; 0 changes nothing."""

Layout = Literal["nhwc", "nchw"]
Color = Literal["gray", "rgb", "bgr"]
Scores = Literal["probabilities", "logits"]
Prior = Literal["training", "uniform"]


class Description(TypedDict, total=False):
    """What can be said of a model: fields of `ModelSpec`, as arguments of `Classifier`.

    The shares of ``ModelSpec.prior`` stand in metadata or a TOML file alone: the argument of that
    name says what is done with them.
    """

    labels: Sequence[str]
    affect: Sequence[str]
    input_size: int | Sequence[int]
    layout: Layout
    color: Color
    range: Sequence[float]
    mean: float | Sequence[float]
    std: float | Sequence[float]
    outputs: Scores
    output_name: str
    margin: float


@dataclass(frozen=True)
class Origin:
    """Where a model comes from.

    Attributes:
        model: Architecture, such as ``vgg16``.
        recipe: Training recipe, such as ``modern``.
        fold: Index of the cross-validation fold that was held out, or None.
        dataset: Name of the training data.
        dataset_digest: SHA-256 over images and labels.
        scores: Metric names and values measured before the export.
        precision: Number format of the weights and products: ``fp32``, ``fp16`` or ``int8``.
        parent: SHA-256 of the file this one was quantised from, or "".
        package_version: Version of fer-edge that wrote the file.
        licence: SPDX identifier of the weights' licence.
    """

    model: str = ""
    recipe: str = ""
    fold: int | None = None
    dataset: str = ""
    dataset_digest: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    precision: str = "fp32"
    parent: str = ""
    package_version: str = ""
    licence: str = ""

    task: ClassVar[str]

    def to_metadata(self) -> dict[str, str]:
        """Return the ONNX metadata entries, each value as JSON."""
        values = {"schema": SCHEMA_VERSION, "task": self.task, **dataclasses.asdict(self)}
        return {
            METADATA_PREFIX + name: json.dumps(value, sort_keys=True)
            for name, value in values.items()
        }


@dataclass(frozen=True)
class ModelSpec(Origin):
    """How to feed a classifier, how to read its output, and where it comes from (`Origin`).

    Attributes:
        labels: Class names in the order of the output's columns.
        affect: Names of numbers that the model gives beside the labels, such as ``valence`` and
            ``arousal``: the columns after the labels', or outputs of their own.
        input_size: (height, width) of the input, pixels.
        layout: Axis order of the input batch.
        color: Channel order of the input; ``gray`` means one channel.
        range: What pixel levels 0 and 255 become before ``mean`` and ``std``.
        mean: Subtracted from each channel, in units of ``range``.
        std: Divides each channel after ``mean``.
        outputs: Whether the model gives probabilities or logits, which need a softmax.
        output_name: The graph's output that has the labels' columns; "" chooses it by its shape.
        margin: Share of the face box's longer side added on each side before the crop.
        prior: Share of each label in what the model was trained on, summing to 1; empty where it
            is not known.
    """

    labels: tuple[str, ...] = EMOTIONS
    affect: tuple[str, ...] = ()
    input_size: tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE)
    layout: Layout = "nhwc"
    color: Color = "gray"
    range: tuple[float, float] = (0.0, 255.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    outputs: Scores = "probabilities"
    output_name: str = ""
    margin: float = 0.0
    prior: tuple[float, ...] = ()

    task: ClassVar[str] = "face-emotion"

    def description(self) -> Description:
        """Return what says of another form of this model how it is fed and read."""
        names = Description.__annotations__
        return cast(Description, {name: getattr(self, name) for name in names})

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all that the model gives: the labels, then the numbers beside them."""
        return (*self.labels, *self.affect)

    @property
    def channels(self) -> int:
        """Number of colour channels of the input, 1 or 3."""
        return 1 if self.color == "gray" else 3


@dataclass(frozen=True)
class DetectorSpec(Origin):
    """How the output of a face detector is read, and where it comes from (`Origin`).

    Its input ``image`` is float32 (N, 3, H, W), BGR, 0-255, H and W multiples of the largest
    stride. Each stride has one output, float32 (N, 5 + 2 P, H / stride, W / stride): the score's
    logit, the centre's shift from the cell's middle in strides, log width and height in strides,
    and P points as shifts in strides.

    Attributes:
        strides: Pixels from one cell to the next, one for each output, in their order.
        points: Names of the landmarks, in order.
        threshold: Least score of a face unless the user says otherwise, 0 to 1.
        overlap: Of two boxes that overlap by more (intersection over union), the better stays.
        side: Longer side at which pictures are searched unless the user says otherwise, pixels.
    """

    strides: tuple[int, ...] = (8, 16, 32)
    points: tuple[str, ...] = POINTS
    threshold: float = 0.5
    overlap: float = 0.4
    side: int = 640

    task: ClassVar[str] = "face-detection"


@dataclass(frozen=True)
class Entry:
    """One thing to know of a model: how its flag, TOML key, argument and metadata are read.

    Attributes:
        name: Its one name; the flag has hyphens.
        convert: Makes the field's value of a plain one; raises TypeError or ValueError.
        parse: Makes the plain value of a flag's text; None where there is no flag.
        metavar: How the flag's value is shown, and what a message asks for.
        help: The flag's help.
        choices: All values there are, where they are few.
        needed: Whether a model cannot be used without it.
        aliases: Older names that are still read.
    """

    name: str
    convert: Callable[[Any], Any]
    parse: Callable[[str], Any] | None
    metavar: str
    help: str
    choices: tuple[str, ...] = ()
    needed: bool = False
    aliases: tuple[str, ...] = ()


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"Expected a list of names, received {value!r}")
    return tuple(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"Expected a number, received {value!r}")
    return float(value)


def _numbers(value: Any) -> tuple[float, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        value = (value,)
    return tuple(_number(item) for item in value)


def _pair(value: Any) -> tuple[float, ...]:
    numbers = _numbers(value)
    if len(numbers) != 2:
        raise ValueError(f"Expected a lower and a higher number, received {value!r}")
    return numbers


def _size(value: Any) -> tuple[int, int]:
    sides = (value, value) if isinstance(value, int) else value
    if isinstance(sides, str) or not isinstance(sides, Sequence) or len(sides) != 2:
        raise ValueError(f"Expected one side or height and width, received {value!r}")
    return sides[0], sides[1]


def _margin(value: Any) -> float:
    share = _number(value)
    if not 0 <= share <= 2:
        raise ValueError(f"Expected a margin from 0 to 2, received {value!r}")
    return share


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"Expected text, received {value!r}")
    return value


def _split(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",")]
    if not all(names) or len(set(names)) != len(names):
        raise ValueError(f"Expected names that differ, such as A,B,C, received {text!r}")
    return names


def _floats(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"Expected numbers such as 0,255, received {text!r}") from error


def _sides(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ValueError(f"Expected 48 or HEIGHTxWIDTH, received {text!r}")
    return int(sides[0]), int(sides[-1])


DESCRIPTION = (
    Entry("labels", _names, _split, "NAME,NAME,...", "Label names, in order.", needed=True),
    Entry(
        "affect",
        _names,
        _split,
        "NAME,...",
        "Numbers that the model gives beside the labels, such as valence,arousal.",
    ),
    Entry("input_size", _size, _sides, "HEIGHTxWIDTH", "Input size, pixels.", needed=True),
    Entry("layout", _text, str, "nhwc|nchw", "Order of the axes.", get_args(Layout), needed=True),
    Entry(
        "color",
        _text,
        str,
        "gray|rgb|bgr",
        "Order of the colours.",
        get_args(Color),
        needed=True,
        aliases=("channels",),
    ),
    Entry(
        "range",
        _pair,
        _floats,
        "LOW,HIGH",
        "What levels 0 and 255 become: 0,255 or 0,1 or -1,1.",
        needed=True,
    ),
    Entry("mean", _numbers, _floats, "M[,M,M]", "Mean that is subtracted then, in that range."),
    Entry("std", _numbers, _floats, "S[,S,S]", "Standard deviation that is divided by after that."),
    Entry(
        "outputs",
        _text,
        str,
        "probabilities|logits",
        "What the model gives.",
        get_args(Scores),
    ),
    Entry("output_name", _text, str, "NAME", "Output to read, of several. [default: by its shape]"),
    Entry(
        "margin",
        _margin,
        float,
        "SHARE",
        "Share of a face's longer side added on each side. [default: the model's]",
    ),
    # What is done with it is a choice of its own: --prior, Classifier(prior=...).
    Entry("prior", _numbers, None, "P,P,...", ""),
)
"""What must, or may, be known of a classifier: one entry for each field of `Description`."""

_BY_NAME = {name: entry for entry in DESCRIPTION for name in (entry.name, *entry.aliases)}


def read_description(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Read a description from plain values, such as those of a TOML file.

    Args:
        values: Values by the names of `DESCRIPTION`, with ``-`` or ``_``.
        source: Where they stand, for messages.

    Returns:
        Values of the fields of `ModelSpec` of the same names.

    Raises:
        ValueError: A name is unknown, or a value cannot be read.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        entry = _BY_NAME.get(key.replace("-", "_"))
        if entry is None:
            names = ", ".join(known.name for known in DESCRIPTION)
            raise ValueError(f"Expected {names} in {source}, received {key!r}")
        try:
            found[entry.name] = entry.convert(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Expected another value of {key} in {source}: {error}") from error
    return found


def spec_from_metadata(metadata: Mapping[str, str], source: str) -> ModelSpec | None:
    """Read a classifier's `ModelSpec` back from ONNX metadata.

    Args:
        metadata: The file's custom metadata, any foreign entries included.
        source: The file's name, for messages.

    Returns:
        The spec, or None where the file carries no fer-edge metadata at all.

    Raises:
        ModelError: The metadata is of another task or schema version, or damaged.
    """
    return _of_task(ModelSpec, read_spec(metadata, source), source)


def detector_from_metadata(metadata: Mapping[str, str], source: str) -> DetectorSpec | None:
    """Read a face detector's `DetectorSpec`; otherwise as `spec_from_metadata`."""
    return _of_task(DetectorSpec, read_spec(metadata, source), source)


S = TypeVar("S", ModelSpec, DetectorSpec)


def _of_task(kind: type[S], spec: ModelSpec | DetectorSpec | None, source: str) -> S | None:
    if spec is None or isinstance(spec, kind):
        return spec
    argument = "model" if spec.task == ModelSpec.task else "detector_model"
    raise ModelError(
        f"Expected a model for {kind.task}, received {source}, which is for {spec.task}; give it "
        f"as `{argument}`"
    )


def read_spec(metadata: Mapping[str, str], source: str) -> ModelSpec | DetectorSpec | None:
    """Read the spec of a file of ours, whatever its task; otherwise as `spec_from_metadata`."""
    entries = {
        key.removeprefix(METADATA_PREFIX): value
        for key, value in metadata.items()
        if key.startswith(METADATA_PREFIX)
    }
    if not entries:
        return None
    try:
        values: dict[str, Any] = {key: json.loads(value) for key, value in entries.items()}
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"Expected JSON in the fer-edge metadata of {source}, received something else "
            f"({error}); export the model again"
        ) from error
    version = values.pop("schema", None)
    if version == 1:
        values = _from_version_1(values)
    elif version != SCHEMA_VERSION:
        raise ModelError(
            f"Expected metadata schema 1 or {SCHEMA_VERSION} in {source}, received {version!r}; "
            "update fer-edge or export the model again"
        )
    kinds = {kind.task: kind for kind in (ModelSpec, DetectorSpec)}
    kind = kinds.get(str(values.pop("task", None)))
    if kind is None:
        raise ModelError(
            f"Expected a task of {' or '.join(kinds)} in {source}, received another; update "
            "fer-edge"
        )
    known = [spec_field.name for spec_field in dataclasses.fields(kind)]
    if missing := sorted(set(known) - values.keys()):
        raise ModelError(
            f"Expected {', '.join(missing)} in the fer-edge metadata of {source}, "
            "received none; export the model again"
        )
    try:
        spec = kind(**{name: _value(name, values[name]) for name in known})
        check_spec(spec, source)
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{source}: {error}; export the model again") from error
    return spec


def _from_version_1(values: dict[str, Any]) -> dict[str, Any]:
    """Give a version 1's values version 2's names; how crops are resized was never a choice."""
    added = {"task": ModelSpec.task, "affect": [], "output_name": "", "prior": []}
    if "value_range" in values:
        added["range"] = values["value_range"]
    return {**added, **values}


def _value(name: str, value: Any) -> Any:
    if entry := _BY_NAME.get(name):
        try:
            return entry.convert(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{error} as {name}") from error
    return tuple(value) if isinstance(value, list) else value


_TEXTS = (
    *("model", "recipe", "dataset", "dataset_digest"),
    *("precision", "parent", "package_version", "licence"),
)


def check_spec(spec: ModelSpec | DetectorSpec, source: str) -> None:
    """Check that a spec, from metadata or from a user's description, can be acted on.

    Raises:
        ModelError: A field has a value that no model can have.
    """
    if not _finite(spec.scores.values()):
        _refuse("finite numbers as scores", spec.scores, source)
    for name in _TEXTS:
        if not isinstance(getattr(spec, name), str):
            _refuse(f"text as {name}", getattr(spec, name), source)
    if isinstance(spec, ModelSpec):
        _check_classifier(spec, source)
    else:
        _check_detector(spec, source)


def _refuse(what: str, received: object, source: str) -> None:
    raise ModelError(f"Expected {what} for {source}, received {received!r}")


def _finite(numbers: Any) -> bool:
    return all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)


def _are_names(names: Sequence[object]) -> bool:
    return len(set(names)) == len(names) and all(
        isinstance(name, str) and name and name.isprintable() for name in names
    )


def _check_classifier(spec: ModelSpec, source: str) -> None:
    if len(spec.labels) < 2 or not _are_names(spec.labels):
        _refuse("two or more label names that differ, of printable letters", spec.labels, source)
    if not _are_names(spec.columns):
        _refuse("other names, of printable letters, as affect", spec.affect, source)
    if not all(isinstance(side, int) and 1 <= side <= 4096 for side in spec.input_size):
        _refuse("an input height and width of 1 to 4096 pixels", spec.input_size, source)
    for entry in DESCRIPTION:
        if entry.choices and getattr(spec, entry.name) not in entry.choices:
            choices = " or ".join(entry.choices)
            _refuse(f"{entry.name} of {choices}", getattr(spec, entry.name), source)
    numbers = (*spec.range, *spec.mean, *spec.std, spec.margin, *spec.prior)
    if not _finite(numbers):
        _refuse("finite numbers as range, mean, std, margin and prior", numbers, source)
    if not spec.range[0] < spec.range[1]:
        _refuse("a range of a lower and a higher number", spec.range, source)
    for name in ("mean", "std"):
        if len(getattr(spec, name)) not in (1, spec.channels):
            _refuse(f"1 or {spec.channels} values of {name}", getattr(spec, name), source)
    if not all(value > 0 for value in spec.std):
        _refuse("std above 0", spec.std, source)
    if spec.prior and (
        len(spec.prior) != len(spec.labels)
        or min(spec.prior) <= 0
        or not math.isclose(sum(spec.prior), 1, abs_tol=1e-3)
    ):
        _refuse("a prior above 0 for each label, summing to 1,", spec.prior, source)


def _check_detector(spec: DetectorSpec, source: str) -> None:
    def is_size(value: object) -> bool:
        return isinstance(value, int) and 1 <= value <= 4096

    if (
        not isinstance(spec.strides, tuple)
        or not spec.strides
        or not all(map(is_size, spec.strides))
    ):
        _refuse("strides of 1 to 4096 pixels", spec.strides, source)
    if not isinstance(spec.points, tuple) or not _are_names(spec.points):
        _refuse("names that differ as points", spec.points, source)
    for name in ("threshold", "overlap"):
        share = getattr(spec, name)
        if not _finite([share]) or not 0 <= share <= 1:
            _refuse(f"{name} from 0 to 1", share, source)
    if not is_size(spec.side):
        _refuse("a side of 1 to 4096 pixels", spec.side, source)


def prior_power(prior: Prior | float | None, spec: ModelSpec, source: str) -> float:
    """Return the power of the training prior that a model's probabilities are divided by.

    Args:
        prior: ``training`` keeps the prior of the training as it is, ``uniform`` takes it out, a
            number takes out so much of it; None means `DEFAULT_PRIOR_POWER` where the prior is
            known, and nothing elsewhere.
        spec: Of the model.
        source: The model's name, for messages.

    Raises:
        ModelError: The prior is asked for, and the model does not say what it is.
        ValueError: There is no such choice.
    """
    if prior is None:
        return DEFAULT_PRIOR_POWER if spec.prior else 0.0
    power = {"training": 0.0, "uniform": 1.0}.get(prior) if isinstance(prior, str) else prior
    if power is None or not 0 <= power <= 2:
        raise ValueError(f"Expected training, uniform or a power from 0 to 2, received {prior!r}")
    if not spec.prior and prior != 0:
        raise ModelError(
            f"Expected a model that says how often each label occurred in its training for "
            f"`prior={prior}`, received {source}, which does not; leave it out, or state the "
            f"shares as prior = [...] in {source.removesuffix('.onnx')}.toml"
        )
    return power
