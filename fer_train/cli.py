"""The command line ``fer-train``: thin; parses, calls and prints.

Keras and what it brings are imported inside the commands, so that ``--help`` answers at once.
"""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from fer_edge import __version__
from fer_train.recipes import (
    MODEL_NAMES,
    PROTOCOL_DEFAULTS,
    THESIS_MODELS,
    Protocol,
    Recipe,
    read_overrides,
    recipe_for,
)

if TYPE_CHECKING:
    from fer_train.data import Dataset
    from fer_train.runs import Run
    from fer_train.training import Progress

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_RUN = Path("runs/default")


class NameList(click.ParamType[tuple[str, ...]]):
    """A comma-separated list of names from a fixed set."""

    name = "names"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        """Take the names that are allowed."""
        self.allowed = allowed

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Split and check the list."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        if unknown := [name for name in names if name not in self.allowed]:
            self.fail(f"expected {', '.join(self.allowed)}, received {', '.join(unknown)}")
        return names


def _setting_options(settings: type, skip: tuple[str, ...]) -> Callable[[F], F]:
    """Return a decorator that adds one option for each field of a settings dataclass."""

    def decorate(function: F) -> F:
        for field in reversed(dataclasses.fields(settings)):
            if field.name in skip:
                continue
            choices = get_args(field.type)
            of_words = bool(choices) and isinstance(choices[0], str)
            kind: Any = click.Choice(choices) if of_words else field.type
            function = click.option(f"--{field.name.replace('_', '-')}", type=kind)(function)
        return function

    return decorate


run_option = click.option(
    "--run",
    "run_folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_RUN,
    show_default=True,
    help="Run folder; the same command on the same folder goes on where it was.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fer-train")
def main() -> None:
    """Train facial emotion models on FER-2013 by cross-validation and export them to ONNX."""
    # Read by the back ends when they are imported: no chatter, and no grabbing of all GPU memory.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def plan_options(function: F) -> F:
    """Add the options that say what a run is made of."""
    options = [
        click.option(
            "--data",
            default="synthetic",
            show_default=True,
            help="FER-2013 as csv, folder or zip, or synthetic[:COUNT] for drawn faces.",
        ),
        click.option(
            "--models",
            type=NameList(MODEL_NAMES),
            default=",".join(THESIS_MODELS),
            show_default=True,
            help=f"Comma-separated, of {', '.join(MODEL_NAMES)}.",
        ),
        click.option(
            "--recipe",
            type=click.Choice(sorted(PROTOCOL_DEFAULTS)),
            default="modern",
            show_default=True,
            help="The published protocol, or what we would defend.",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="TOML file of settings; flags win over it.",
        ),
        click.option("--folds", type=click.IntRange(1), help="1: Training against PublicTest."),
        click.option("--limit", type=click.IntRange(1), help="Use at most so many images."),
        click.option("--seed", type=click.IntRange(0)),
        click.option("--pool", type=click.Choice(["all", "training"])),
        click.option("--grouping", type=click.Choice(["none", "duplicates"])),
        click.option("--inner", type=float, help="Share held out to steer training."),
        click.option("--drop", type=NameList(Protocol("").labels), help="Emotions to leave out."),
        run_option,
    ]
    function = _setting_options(Recipe, skip=("name",))(function)
    for option in reversed(options):
        function = option(function)
    return function


def _plan(
    data: str,
    models: tuple[str, ...],
    recipe: str,
    config: Path | None,
    run_folder: Path,
    flags: dict[str, Any],
) -> "tuple[Run, Dataset]":
    from fer_train.schedule import load_images, plan_run

    given = {name: value for name, value in flags.items() if value is not None}
    protocol_fields = {field.name for field in dataclasses.fields(Protocol)}
    common = read_overrides(config, "") if config else {}
    settings = PROTOCOL_DEFAULTS[recipe] | common | given
    protocol = Protocol(
        data=data, **{key: value for key, value in settings.items() if key in protocol_fields}
    )
    recipes = {}
    for model in models:
        overrides = (read_overrides(config, model) if config else {}) | given
        recipes[model] = recipe_for(
            recipe,
            model,
            {key: value for key, value in overrides.items() if key not in protocol_fields},
        )
    dataset = load_images(protocol)
    return plan_run(run_folder, protocol, recipes, dataset), dataset


class FoldReporter:
    """Shows a fold's progress on standard error: a bar on a terminal, a line an epoch elsewhere."""

    def __init__(self, title: str) -> None:
        """Take what stands before each line."""
        self.title = title
        self.bar: Any = None

    def __call__(self, progress: "Progress") -> None:
        """Show one step."""
        from tqdm import tqdm

        if progress.row:
            row = progress.row
            tqdm.write(
                f"{self.title} epoch {progress.epoch}/{progress.epochs} "
                f"loss {row['loss']:.4f} accuracy {row['accuracy']:.4f} "
                f"val_loss {row['val_loss']:.4f} val_accuracy {row['val_accuracy']:.4f} "
                f"{row['seconds']:.0f} s",
                file=sys.stderr,
            )
            return
        if self.bar is None:
            self.bar = tqdm(
                desc=self.title,
                total=progress.epochs * progress.images_total,
                initial=(progress.epoch - 1) * progress.images_total,
                unit="image",
                unit_scale=True,
                file=sys.stderr,
                disable=None,
                leave=False,
            )
        done = (progress.epoch - 1) * progress.images_total + progress.images
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()


def _train_fold(run: "Run", dataset: "Dataset", model: str, index: int) -> dict[str, Any]:
    from fer_train.training import FoldTrainer, choose_precision, describe_device

    click.echo(
        f"{model} fold {index + 1} of {len(run.folds)}: {describe_device()}, "
        f"{choose_precision(run.recipes[model])}",
        err=True,
    )
    reporter = FoldReporter(f"{model} fold {index + 1}/{len(run.folds)}")
    try:
        return FoldTrainer(run, model, run.folds[index], dataset.images, dataset.labels).train(
            reporter
        )
    finally:
        reporter.close()


@main.command()
@click.option("--model", type=click.Choice(MODEL_NAMES), required=True)
@click.option("--fold", "index", type=click.IntRange(0), required=True, help="From 0.")
@run_option
def fold(model: str, index: int, run_folder: Path) -> None:
    """Train one fold of a run that `fer-train plan` or `fer-train all` has set up."""
    from fer_edge.errors import RunError
    from fer_train.runs import open_run
    from fer_train.schedule import load_images

    run = open_run(run_folder)
    if model not in run.recipes:
        raise RunError(f"Expected a model of {', '.join(run.recipes)}, received {model}")
    if index >= len(run.folds):
        raise click.BadParameter(
            f"expected 0 to {len(run.folds) - 1}, received {index}", param_hint="--fold"
        )
    dataset = load_images(run.protocol)
    if dataset.digest != run.dataset_digest:
        raise RunError(f"{run.protocol.data} is not the data set that {run_folder} was made with")
    scores = _train_fold(run, dataset, model, index)
    click.echo(f"{model} fold {index + 1}: top-1 {scores['accuracy']:.4f}")


@main.command()
@plan_options
def plan(
    data: str,
    models: tuple[str, ...],
    recipe: str,
    config: Path | None,
    run_folder: Path,
    **flags: Any,
) -> None:
    """Set up a run folder, for `fer-train fold` on one machine or many."""
    run, _ = _plan(data, models, recipe, config, run_folder, flags)
    click.echo(f"{run.folder}: {len(run.folds)} folds of {', '.join(run.recipes)}")


if __name__ == "__main__":
    main()
