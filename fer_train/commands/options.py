"""Options that several commands share."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from fer_edge._base.sections import section
from fer_train.commands.parameters import SEED, LabelsMap, ModelFile, NameList
from fer_train.data.emotions import LABEL_PRESETS
from fer_train.data.form import COLORS, LARGEST_SIZE, LEAST_SIZE
from fer_train.data.group_patterns import GROUP_PATTERNS
from fer_train.data.languages import LANGUAGES
from fer_train.run.recipes import (
    LOGS,
    MODEL_NAMES,
    PROTOCOL_DEFAULTS,
    THESIS_MODELS,
    Protocol,
    Recipe,
    default_text,
)

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_RUN = Path("runs/default")
EXPORTED = Path("exported")
TEACHING = ("teacher_weight", "views")
"""Settings of `fer-train distill` alone."""

DATA, OTHERWISE, RUNNING, EXPORTING = "Data and folds", "Training", "Running", "Export"
_SECTIONS = {
    **dict.fromkeys(("pool", "grouping", "steer", "inner"), DATA),
    **dict.fromkeys(("preprocessing", "weights", "head", "normalization", "l2"), "Network"),
    **dict.fromkeys(
        ("augmentation", "erasing", "mixup", "label_smoothing", "balance", "votes_share"),
        "Images and targets",
    ),
    **dict.fromkeys(("teacher_weight", "views"), "Teachers"),
}
"""The heading in help of a setting."""


def setting_options(
    settings: type, skip: tuple[str, ...] = (), heading: str = OTHERWISE
) -> Callable[[F], F]:
    """Return a decorator that adds one option for each field of a settings dataclass."""
    # The attributes' own descriptions are the help texts, so that neither can fall behind.
    attributes = inspect.cleandoc(settings.__doc__ or "").partition("Attributes:\n")[2]
    texts = dict(re.findall(r"^    (\w+): (.*(?:\n        .*)*)", attributes, re.MULTILINE))

    def decorate(function: F) -> F:
        for field in reversed(dataclasses.fields(settings)):
            if field.name in skip:
                continue
            choices = get_args(field.type)
            of_words = bool(choices) and isinstance(choices[0], str)
            kind: Any = click.Choice(choices) if of_words else field.type
            flag = f"--{field.name.replace('_', '-')}"
            text = " ".join(texts[field.name].replace("``", "").split())
            text = f"{text} [{_default_text(settings, field)}]"
            option = click.option(flag, type=kind, help=text)
            function = section(_SECTIONS.get(field.name, heading), option)(function)
        return function

    return decorate


def _default_text(settings: type, field: "dataclasses.Field[Any]") -> str:
    if settings is Recipe:
        return f"default: {default_text(field.name)}"
    if settings is not Protocol:
        return f"default: {field.default}"
    by_recipe = {
        name: own.get(field.name, field.default) for name, own in PROTOCOL_DEFAULTS.items()
    }
    if len(set(by_recipe.values())) == 1:
        return f"default: {field.default}"
    return "default: " + "; ".join(f"{name} {value}" for name, value in sorted(by_recipe.items()))


layout_option = click.option(
    "--layout",
    type=click.Choice(["folders", "jaffe", "ckplus", "kdef", "rafdb"]),
    default="folders",
    show_default=True,
    help="How pictures name their emotions. folders: the nearest folder that means one.",
)

run_option = click.option(
    "--run",
    "run_folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_RUN,
    show_default=True,
    help="Run folder; the same command on it continues where it stopped.",
)

store_option = click.option(
    "--store",
    envvar="FER_TRAIN_STORE",
    show_envvar=True,
    metavar="ADDRESS",
    help="Copy of the run folder in object storage, such as s3://bucket/run: folds continue "
    "from it and upload each epoch to it. It does not keep two machines from training one fold.",
)

log_option = click.option(
    "--log",
    "logs",
    type=NameList(LOGS),
    default=(),
    help="Experiment trackers that log each epoch: mlflow, tensorboard, or both with a comma. "
    "MLflow logs to MLFLOW_TRACKING_URI; TensorBoard's --logdir is the run folder.",
)

votes_option = click.option(
    "--votes",
    type=click.Path(exists=True, dir_okay=False),
    help="Votes of several people for each image: FER+'s fer2013new.csv, or a csv with a column "
    "file and one for each emotion. Models are trained on them and scored by them.",
)

classes_option = click.option(
    "--classes",
    type=NameList(),
    metavar="NAME,NAME,...",
    help="Classes, in order: emotions or any other names. Images of other emotions are left "
    "out. [default: the seven emotions, and what else --labels-map names; that alone "
    "where it names no emotion]",
)

groups_option = click.option(
    "--groups",
    metavar="FILE.csv|PATTERN",
    help="The person or clip of each image; a split never divides one. A csv with the columns file "
    "and group; a regular expression, whose first group in an image's name counts; or a known "
    f"pattern: {', '.join(GROUP_PATTERNS)}.",
)

labels_map_option = click.option(
    "--labels-map",
    type=LabelsMap(),
    metavar="FILE.toml|PRESET|NAME=CLASS,...",
    help="What other names and numbers of labels mean; NAME= leaves its images out. Presets "
    f"are data sets ({', '.join(LABEL_PRESETS)}) and languages ({', '.join(LANGUAGES)}).",
)

export_dir_option = click.option(
    "--export-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the ONNX files; older ones are replaced. [default: exported, or RUN/exported "
    "where that would replace a model of another training]",
)

licence_option = click.option(
    "--licence",
    default="",
    metavar="SPDX",
    help="Licence of the weights, for the files' metadata and cards, such as MIT.",
)

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TOML file of settings; flags override it.",
)


_OWN = ("model_file", "code")
"""Settings that `model_file_option` gives."""

recipe_options = setting_options(Recipe, skip=("name", *_OWN))

model_file_option = click.option(
    "--model-file",
    type=ModelFile(),
    metavar="FILE.py:FUNCTION",
    help="Keras model of your own, named like its file: FUNCTION(input_shape, classes) returns a "
    "model from levels 0-255 to probabilities. FILE.py is run: give only code that you trust. RUN "
    "keeps a copy.",
)

color_option = click.option(
    "--color",
    type=click.Choice(COLORS),
    help="Colour of the images; pictures are converted. [default: gray; pictures in colour are "
    "refused]",
)

image_size_option = click.option(
    "--image-size",
    type=click.IntRange(LEAST_SIZE, LARGEST_SIZE),
    help="Side of the images in pixels; pictures are resized. [default: 48; other pictures are "
    "refused]",
)


def data_options(function: F) -> F:
    """Add the options that say what data and settings models are trained with."""
    options = [
        click.option(
            "--data",
            default="synthetic",
            show_default=True,
            help="FER-2013 as csv, folder, zip or tar.gz, or synthetic[:COUNT] for drawn faces; "
            "synthetic:COUNT,people=N,clips=N draws few people, or frames of few clips.",
        ),
        click.option(
            "--models",
            type=NameList(),
            help=f"Models to train, comma-separated: {', '.join(MODEL_NAMES)}, or that of "
            f"--model-file. [default: {','.join(THESIS_MODELS)}, or that of --model-file]",
        ),
        model_file_option,
        click.option(
            "--recipe",
            type=click.Choice(sorted(PROTOCOL_DEFAULTS)),
            default="modern",
            show_default=True,
            help="thesis: the protocol as published; modern: what we would defend.",
        ),
        config_option,
        click.option(
            "--folds",
            type=click.IntRange(1),
            help="1: the data set's own split, Training against PublicTest and PrivateTest. "
            f"[default: {Protocol.folds}]",
        ),
        votes_option,
        groups_option,
        click.option(
            "--limit", type=click.IntRange(1), help="Use at most this many images. [default: all]"
        ),
        click.option("--seed", type=SEED, help="Random seed. [default: 0]"),
        click.option(
            "--split-seed",
            type=SEED,
            help="Seed of the sample and the folds alone: several seeds on the same folds tell "
            "their spreads apart. [default: --seed]",
        ),
        classes_option,
        labels_map_option,
        color_option,
        image_size_option,
        click.option("--drop", type=NameList(), help="Classes to leave out, comma-separated."),
    ]
    function = setting_options(Recipe, skip=("name", *_OWN, *TEACHING))(function)
    named = (
        *("data", "folds", "limit", "seed", "split_seed", "classes", "labels_map", "drop"),
        *("votes", "groups", "color", "image_size"),
    )
    function = setting_options(Protocol, skip=named)(function)
    return section(DATA, *options)(function)


def plan_options(function: F) -> F:
    """Add the options that say what a run is made of."""
    return data_options(section(RUNNING, run_option, store_option)(function))


def output_option(default: str) -> Callable[[F], F]:
    """Return a decorator that adds the folder for a document."""
    return click.option(
        "--output",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(default),
        show_default=True,
        help="Folder for the Markdown, the page and the pictures; older ones are replaced.",
    )


def echo_paths(paths: list[Path]) -> None:
    """Print what a command has written, a path to a line."""
    for path in paths:
        click.echo(path)
