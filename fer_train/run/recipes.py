"""What a training is made of: frozen settings, saved with every run.

Two recipes. ``thesis`` is the protocol of E. B. Kirkvik, *Facial Emotion Recognition using Deep
Learning* (OsloMet, 2022) as published, its faults included: plain k-fold over images that have
copies in other folds, the learning rate steered by the test set itself, no ImageNet
preprocessing. ``modern`` mends them.
"""

import dataclasses
import json
import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from fer_edge.errors import DataError
from fer_train.data.emotions import Labelling, class_name, make_labelling, parse_labels_map
from fer_train.data.form import COLORS, LARGEST_SIZE, LEAST_SIZE, Form, ImageColor
from fer_train.run.model_file import check_model_name, code_digest, read_model_file

KERAS_MODELS = ("sequential", "vgg16", "resnet50", "edge")
SVM = "svm"
MODEL_NAMES = (*KERAS_MODELS, SVM)
"""The models that are there; any other name is that of a model of one's own."""
THESIS_MODELS = ("sequential", "vgg16", "resnet50")
TRANSFER_MODELS = ("vgg16", "resnet50")
_LEAST_TRANSFER_SIZE = 32
LOGS = ("mlflow", "tensorboard")
"""The experiment trackers that can be told of a training."""
LARGEST_SEED = 2**32 - 1
"""What the random generators of all libraries take."""


@dataclass(frozen=True)
class Recipe:
    """Every setting of a training of one model.

    Attributes:
        name: ``thesis`` or ``modern``: where the defaults come from.
        epochs: Passes over the training images; the most, where training can stop early.
        frozen_epochs: Of these, how many first train the head alone on a frozen backbone; equal to
            ``epochs`` the backbone is never trained.
        batch_size: Images a step.
        optimizer: Keras optimizer.
        learning_rate: Highest learning rate.
        schedule: ``plateau`` halves the rate after 20 epochs without a lower validation loss;
            ``cosine`` warms up and falls to 0 at the last epoch.
        warmup_epochs: Linear warm-up of the cosine schedule.
        weight_decay: Decoupled weight decay (AdamW).
        l2: L2 penalty on the kernels of the sequential model's last two convolutions.
        label_smoothing: Share of the label mass spread over all classes.
        augmentation: Strength of flips, rotations, zooms and shifts; 0 is none.
        erasing: Share of the images of which a rectangle is overwritten with noise.
        mixup: Alpha of the Beta(alpha, alpha) distribution of the share by which each image and its
            target are mixed with another's; 0 is none.
        preprocessing: ``unit`` divides by 255, ``symmetric`` scales to [-1, 1], ``imagenet`` is
            what the ImageNet weights were trained with (Keras "caffe" mode: BGR less its mean).
        weights: ``imagenet``, ``none`` or a weights file of the backbone, for the transfer models;
            or a ``.keras`` file of the same model to go on from, for all: with another seed, since
            under its own the same shuffling, augmentation and dropout come again. Of a model of
            more or fewer classes all but the last layer is taken.
        normalization: ``batch`` normalises after each convolution of vgg16, which from scratch
            learns better so, and is folded into the convolutions when training ends. ``none`` is
            vgg16 as published; other models have normalisation of their own.
        head: ``thesis`` is the published head, ``gap`` is global average pooling and one layer.
        patience: Epochs without a lower validation loss after which training stops; 0 is never, nor
            does a cosine schedule stop whose last epoch is kept: its gains come as the rate falls.
        keep: Which epoch's weights are evaluated and exported.
        votes_share: Share of the votes in the targets, where there are votes; the rest is the data
            set's own label.
        teacher_weight: Share of a teacher's predictions in the targets, for `fer-train distill`.
        views: Changed versions of each image for which files as teachers predict once, ahead of
            training; epochs see one after the other, and again. 0 is a new version in every epoch,
            as long as the teachers are Keras files: for `fer-train distill`.
        balance: ``weights`` weighs classes by inverse frequency; ``oversample`` repeats images.
        precision: ``auto`` is bfloat16 with float32 variables where the hardware multiplies it.
        model_file: ``FILE.py:FUNCTION`` that builds a model of one's own; "" of the others.
        code: The text of that file.
    """

    name: Literal["thesis", "modern"] = "modern"
    epochs: int = 60
    frozen_epochs: int = 0
    batch_size: int = 64
    optimizer: Literal["adam", "sgd", "adamw"] = "adamw"
    learning_rate: float = 2e-3
    schedule: Literal["plateau", "cosine"] = "cosine"
    warmup_epochs: float = 2.0
    weight_decay: float = 0.01
    l2: float = 0.0
    label_smoothing: float = 0.1
    augmentation: float = 1.0
    erasing: float = 0.0
    mixup: float = 0.0
    preprocessing: Literal["unit", "symmetric", "imagenet"] = "symmetric"
    weights: str = "none"
    normalization: Literal["none", "batch"] = "none"
    head: Literal["thesis", "gap"] = "thesis"
    patience: int = 20
    keep: Literal["last", "best"] = "best"
    votes_share: float = 1.0
    teacher_weight: float = 0.0
    views: int = 0
    balance: Literal["none", "weights", "oversample"] = "none"
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    model_file: str = ""
    code: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Check each value, so that a bad flag fails before any work."""
        check_kinds(self)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                self._refuse(name, "1 or more")
        if not 0 <= self.frozen_epochs <= self.epochs:
            self._refuse("frozen_epochs", f"0 to {self.epochs} (epochs)")
        if not 0 < self.learning_rate <= 10:
            self._refuse("learning_rate", "above 0 and at most 10")
        for name in ("warmup_epochs", "weight_decay", "l2", "mixup", "patience", "views"):
            if getattr(self, name) < 0:
                self._refuse(name, "0 or more")
        if not 0 <= self.augmentation <= 10:
            self._refuse("augmentation", "from 0 to 10")
        if not 0 <= self.label_smoothing < 1:
            self._refuse("label_smoothing", "from 0 to below 1")
        for name in ("erasing", "teacher_weight", "votes_share"):
            if not 0 <= getattr(self, name) <= 1:
                self._refuse(name, "from 0 to 1")

    def _refuse(self, name: str, expected: str) -> None:
        raise wrong_setting(self, name, expected)

    def plain(self) -> dict[str, Any]:
        """Return all settings as plain values, of the code its SHA-256 alone."""
        values = dataclasses.asdict(self)
        return values | {"code": code_digest(self.code) if self.code else ""}


def wrong_setting(settings: Any, name: str, expected: str) -> DataError:
    """Return the error that says what was expected of a setting."""
    return DataError(f"Expected {name} of {expected}, received {getattr(settings, name)!r}")


def check_kinds(settings: Any) -> None:
    """Check that each value is of its field's kind; a file of settings can hold anything."""
    kinds: dict[Any, tuple[type | tuple[type, ...], str]] = {
        int: (int, "a whole number"),
        float: ((int, float), "a number"),
        str: (str, "text"),
    }
    for spec_field in dataclasses.fields(settings):
        value = getattr(settings, spec_field.name)
        allowed = get_args(spec_field.type)
        if allowed and isinstance(allowed[0], str) and value not in allowed:
            raise wrong_setting(settings, spec_field.name, " or ".join(allowed))
        kind = allowed[0] if type(None) in allowed else spec_field.type
        if kind not in kinds or (value is None and type(None) in allowed):
            continue
        of, called = kinds[kind]
        if not isinstance(value, of) or isinstance(value, bool):
            raise wrong_setting(settings, spec_field.name, called)
        if isinstance(value, float) and not math.isfinite(value):
            raise wrong_setting(settings, spec_field.name, called)


@dataclass(frozen=True)
class Protocol:
    """What data a run uses and how it is split; the same for all its models.

    Attributes:
        data: Data set: a csv, folder or zip, or ``synthetic``.
        limit: Most images used, or None.
        pool: ``all`` images, or those of ``training`` alone, so that the others can be a test set.
        classes: What the models tell apart, in order: emotions or any other names. Without any
            they are the seven emotions and what else the labels map names, or that alone where it
            names no emotion. Images of emotions that are no class are left out.
        labels_map: What other names and numbers of labels mean, ``NAME=CLASS`` each; ``NAME=``
            leaves images out; or a language, whose names of the emotions count.
        drop: Classes left out.
        folds: Number of folds; 1 is the data set's own split into Training and what tests:
            PublicTest and PrivateTest.
        grouping: ``none`` is plain KFold; ``duplicates`` is stratified, keeps copies of an image in
            one fold, and lets neither blank images nor identical ones with conflicting labels
            train.
        groups: The person or clip of each image, none of which is on two sides of a split: a csv
            with the columns file and group, a pattern of names (a regular expression, of which the
            first group counts), or ckplus, jaffe, kdef or frames, whose patterns are known.
        votes: Csv of what people saw in the images, see `fer_train.data.votes`; None teaches the
            labels.
        color: ``gray`` or ``rgb``, which pictures are made; None is grey, and refuses others.
        image_size: Side of the images, pixels, to which pictures are scaled; None is 48, and
            refuses others.
        steer: With one fold, what steers training: an ``inner`` split of Training, so that
            PublicTest and PrivateTest both are test sets, or PublicTest, so that PrivateTest is.
        inner: Share of the training images held out to steer training; 0 steers by the test set.
        seed: Of the sample, the folds, the weights, shuffling and augmentation.
        split_seed: Of the sample and the folds, where it is another: several seeds on the same
            folds tell their spreads apart.
    """

    data: str
    limit: int | None = None
    pool: Literal["all", "training"] = "all"
    classes: tuple[str, ...] = ()
    labels_map: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    folds: int = 10
    grouping: Literal["none", "duplicates"] = "duplicates"
    groups: str | None = None
    votes: str | None = None
    color: ImageColor | None = None
    image_size: int | None = None
    steer: Literal["inner", "PublicTest"] = "inner"
    inner: float = 0.1
    seed: int = 0
    split_seed: int | None = None

    def __post_init__(self) -> None:
        """Check each value, so that a bad flag fails before any work."""
        check_kinds(self)
        if self.steer != "inner" and self.folds != 1:
            raise wrong_setting(self, "steer", "inner but with --folds 1")
        for name, kind in (("classes", "names"), ("labels_map", "texts"), ("drop", "emotions")):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
                raise wrong_setting(self, name, f"a list of {kind}")
        if self.color not in (None, *COLORS):
            raise wrong_setting(self, "color", " or ".join(COLORS))
        if self.image_size is not None and not LEAST_SIZE <= self.image_size <= LARGEST_SIZE:
            raise wrong_setting(self, "image_size", f"{LEAST_SIZE} to {LARGEST_SIZE} pixels")
        if self.folds < 1:
            raise DataError(f"Expected 1 fold or more, received {self.folds}")
        for seed in (self.seed, self.seed_of_split):
            if not 0 <= seed <= LARGEST_SEED:
                raise DataError(f"Expected a seed from 0 to {LARGEST_SEED}, received {seed}")
        if not 0 <= self.inner <= 0.5:
            raise DataError(f"Expected an inner share from 0 to 0.5, received {self.inner}")
        classes = self.labelling.classes
        if unknown := set(map(class_name, self.drop)) - set(classes):
            raise DataError(
                f"Expected classes to drop among {', '.join(classes)}, "
                f"received {', '.join(sorted(unknown))}"
            )
        if len(self.labels) < 2:
            raise DataError(
                f"Expected at least two classes, received {', '.join(self.labels) or 'none'}"
                + ("; drop fewer" if self.drop else "")
            )

    @property
    def form(self) -> Form:
        """How large the images are, and in which colours."""
        return Form(self.image_size, self.color)

    @property
    def seed_of_split(self) -> int:
        """Seed of the sample and the folds."""
        return self.seed if self.split_seed is None else self.split_seed

    @cached_property
    def labelling(self) -> Labelling:
        """All classes, and which names in the data mean them."""
        return make_labelling(self.classes, self.labels_map)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes that remain, in their order."""
        dropped = set(map(class_name, self.drop))
        return tuple(name for name in self.labelling.classes if name not in dropped)


def saved_protocol(settings: Mapping[str, Any]) -> Protocol:
    """Return the protocol of a run folder's settings, an older one's too.

    Raises:
        DataError: A value is out of range.
        TypeError: A field is not known.
    """
    return Protocol(**_with_tuples(settings))


def _with_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    # JSON and TOML know lists alone.
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }


PROTOCOL_DEFAULTS: dict[str, dict[str, Any]] = {
    "thesis": {"grouping": "none", "inner": 0.0},
    "modern": {"grouping": "duplicates", "inner": 0.1},
}


_ONLY = {"l2": "sequential", "normalization": "vgg16"}
"""Settings that one model alone has."""
_SHAPING = ("preprocessing", "normalization", "head", "l2")
"""Settings of the networks that are there, which one's own has in its code."""


def is_network(model: str) -> bool:
    """Tell whether a model is trained by epochs: any but the support vector machine."""
    return model != SVM


def settings_of(model: str) -> tuple[str, ...]:
    """Return the fields of `Recipe` that shape the training of a model."""
    if not is_network(model):
        return ("name",)
    names = [spec_field.name for spec_field in dataclasses.fields(Recipe)]
    names.remove("code")
    if model not in KERAS_MODELS:
        return tuple(name for name in names if name not in _SHAPING)
    names.remove("model_file")
    return tuple(name for name in names if _ONLY.get(name, model) == model)


def recipe_for(name: str, model: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return the settings of one model under a recipe.

    Args:
        name: ``thesis`` or ``modern``.
        model: One of `MODEL_NAMES`, or a model of one's own.
        overrides: Fields of `Recipe` that differ from the recipe's own; of a model of one's own
            ``model_file`` and ``code`` too, which others do not take.

    Raises:
        DataError: A value is out of range, or a field is not known.
    """
    values = _THESIS if name == "thesis" else _MODERN
    default = values["all"] | values.get(model if model in MODEL_NAMES else "own", {})
    merged = {"name": name} | default | dict(overrides or {})
    known = {spec_field.name for spec_field in dataclasses.fields(Recipe)}
    if unknown := merged.keys() - known:
        raise DataError(
            f"Expected settings among {', '.join(sorted(known))}, "
            f"received {', '.join(sorted(unknown))}"
        )
    if "epochs" in (overrides or {}) and "frozen_epochs" not in (overrides or {}):
        # A shorter training keeps the share of the frozen stage.
        share = default.get("frozen_epochs", 0) / default["epochs"]
        if isinstance(merged["epochs"], int):
            merged["frozen_epochs"] = round(merged["epochs"] * share)
    if name == "modern" and model in TRANSFER_MODELS:
        own = _not_pretrained(model, str(merged["weights"]))
        merged |= {key: value for key, value in own.items() if key not in (overrides or {})}
    if str(merged.get("weights")).endswith(".keras") and "frozen_epochs" not in (overrides or {}):
        # There is no new head whose first steps would spoil the backbone.
        merged["frozen_epochs"] = 0
    recipe = saved_recipe(model, merged)
    if model not in MODEL_NAMES or recipe.code:
        _check_own(model, recipe, overrides or {})
    if model in KERAS_MODELS and recipe.frozen_epochs and recipe.weights == "none":
        raise DataError(
            f"Expected trained weights for {model}, whose backbone is frozen for "
            f"{recipe.frozen_epochs} epochs, received none: its head would learn from random "
            "features; use --weights FILE, or --frozen-epochs 0 to train all of it"
        )
    if recipe.normalization == "batch" and (model != "vgg16" or recipe.weights != "none"):
        raise DataError(
            "Expected normalization of none but for vgg16 from scratch (--weights none), received "
            f"batch for {model} with weights {recipe.weights}"
        )
    named = recipe.weights in ("imagenet", "none") or recipe.weights.endswith(".keras")
    if model not in TRANSFER_MODELS and not named:
        raise DataError(f"Expected weights of {model} in a .keras file, received {recipe.weights}")
    return recipe


def _check_own(model: str, recipe: Recipe, overrides: Mapping[str, Any]) -> None:
    if not recipe.code:
        raise DataError(
            f"Expected models among {', '.join(MODEL_NAMES)}, or one of your own with --model-file "
            f"{model}.py:FUNCTION, received {model}"
        )
    check_model_name(model, MODEL_NAMES)
    if wrong := [name for name in _SHAPING if name in overrides]:
        raise DataError(
            f"Expected no {', '.join(wrong)} for {model}, whose code says what stands between the "
            "pixels and the answers; for other models give it in a table of theirs in --config"
        )


def _not_pretrained(model: str, weights: str) -> dict[str, Any]:
    """Return the defaults of a transfer model that does not start from a pretrained backbone."""
    if weights.endswith(".keras"):
        # Whole models that ship see their images so.
        return {"preprocessing": "symmetric"}
    if weights != "none":
        return {}
    # From scratch there is nothing to keep frozen and nothing to forget.
    scratch = {"frozen_epochs": 0, "learning_rate": 2e-3, "preprocessing": "symmetric"}
    return scratch | ({"normalization": "batch"} if model == "vgg16" else {})


def check_size(model: str, protocol: Protocol) -> None:
    """Check that images are large enough for a model.

    Raises:
        DataError: They are not.
    """
    if model in TRANSFER_MODELS and protocol.form.side < _LEAST_TRANSFER_SIZE:
        raise DataError(
            f"Expected images of {_LEAST_TRANSFER_SIZE} pixels or more for {model}, received "
            f"{protocol.form.side}; give a larger --image-size"
        )


def saved_recipe(model: str, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a model's settings, those of an older run folder too.

    Raises:
        DataError: A value is out of range.
        TypeError: A field is not known.
    """
    recipe = Recipe(**settings)
    if model not in TRANSFER_MODELS and recipe.weights == "imagenet":
        # There are none of our own networks.
        return dataclasses.replace(recipe, weights="none")
    return recipe


def to_toml(protocol: Protocol, recipes: Mapping[str, Recipe]) -> str:
    """Return settings as the TOML that `read_overrides` takes: one table a model.

    What has no value, such as a limit of None, and the data themselves are left out.
    """
    shared = "\n".join(_toml_lines(protocol, ("data",))) + "\n"
    return "\n".join([shared, *(model_toml(model, recipe) for model, recipe in recipes.items())])


def model_toml(model: str, recipe: Recipe) -> str:
    """Return the settings of a model as a TOML table of its name."""
    unused = {spec_field.name for spec_field in dataclasses.fields(Recipe)}
    unused -= set(settings_of(model))
    return "\n".join([f"[{model}]", *_toml_lines(recipe, ("name", *unused))]) + "\n"


def _toml_lines(settings: Any, skip: Collection[str]) -> list[str]:
    # JSON's words for texts, numbers and lists are TOML's too.
    return [
        f"{name} = {json.dumps(value)}"
        for name, value in dataclasses.asdict(settings).items()
        if value is not None and name not in skip
    ]


def default_text(name: str) -> str:
    """Return what a setting of `Recipe` is by default, such as ``modern 60, thesis 20 to 50``."""
    found = {}
    for recipe in PROTOCOL_DEFAULTS:
        values = {getattr(recipe_for(recipe, model), name) for model in KERAS_MODELS}
        numbers = sorted(value for value in values if not isinstance(value, str))
        found[recipe] = (
            f"{numbers[0]:g} to {numbers[-1]:g}, by model"
            if len(numbers) > 1
            else " or ".join(sorted(map(_short, values)))
        )
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "; ".join(f"{recipe} {text}" for recipe, text in sorted(found.items()))


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def read_overrides(path: Path, model: str, own: Collection[str] = ()) -> dict[str, Any]:
    """Read settings from a TOML file: top-level keys for all models, ``[MODEL]`` tables for one.

    A table with ``model_file``, a path from the TOML file, is of a model of one's own.

    Args:
        path: The file.
        model: Whose settings; "" returns what is for all models.
        own: Models of one's own that are known otherwise.

    Raises:
        DataError: The file cannot be read, is not TOML, or sets what is no setting.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"Expected a TOML file of settings, received {path}: {error}") from error
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    shared = {key: value for key, value in document.items() if key not in tables}
    recipe, protocol = (
        {spec_field.name for spec_field in dataclasses.fields(kind)} - {"name", "data", "code"}
        for kind in (Recipe, Protocol)
    )
    of_all = recipe - {"model_file"}
    named = {*own, *(table for table, keys in tables.items() if "model_file" in keys)}
    for place, keys, known in (
        (path, tables, {*MODEL_NAMES, *named}),
        (path, shared, of_all | protocol),
        *(
            (f"[{table}] of {path}", keys, of_all if table in MODEL_NAMES else recipe)
            for table, keys in tables.items()
        ),
    ):
        if unknown := set(keys) - known:
            raise DataError(
                f"Expected {', '.join(sorted(known))} in {place}, received "
                f"{', '.join(sorted(unknown))}"
            )
    if isinstance(shared.get("labels_map"), str):
        shared["labels_map"] = parse_labels_map(shared["labels_map"])
    shared = _with_tuples(shared)
    of_model: dict[str, Any] = tables.get(model, {})
    if "model_file" in of_model:
        of_model |= read_model_file(str(of_model["model_file"]), path.parent).settings
    return shared | of_model


_THESIS: dict[str, dict[str, Any]] = {
    "all": {
        "batch_size": 32,
        "schedule": "plateau",
        "warmup_epochs": 0.0,
        "weight_decay": 0.0,
        "label_smoothing": 0.0,
        "augmentation": 0.0,
        "preprocessing": "unit",
        "patience": 20,
        "keep": "last",
        "epochs": 20,
        "frozen_epochs": 20,
        "precision": "float32",
    },
    "sequential": {
        "epochs": 50,
        "frozen_epochs": 0,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "l2": 0.01,
    },
    "vgg16": {"optimizer": "sgd", "learning_rate": 0.01, "weights": "imagenet"},
    "resnet50": {"optimizer": "adam", "learning_rate": 1e-3, "weights": "imagenet"},
    "edge": {"frozen_epochs": 0, "optimizer": "adam", "learning_rate": 1e-3},
    "own": {"frozen_epochs": 0, "optimizer": "adam", "learning_rate": 1e-3},
}

_PRETRAINED = {"weights": "imagenet", "preprocessing": "imagenet"}
_MODERN: dict[str, dict[str, Any]] = {
    "all": {"epochs": 60},
    # Without normalisation after its first layers it learns more slowly at higher rates.
    "sequential": {"learning_rate": 6e-4, "augmentation": 0.7},
    # Fine-tuning forgets ImageNet at a higher rate.
    "vgg16": {"frozen_epochs": 5, "learning_rate": 3e-4} | _PRETRAINED,
    "resnet50": {"frozen_epochs": 5, "learning_rate": 5e-4} | _PRETRAINED,
}
