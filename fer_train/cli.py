"""The command line ``fer-train``: thin; parses, calls and prints.

Keras and what it brings are imported inside the commands, so that ``--help`` answers at once.
"""

import dataclasses
import inspect
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args
from urllib.parse import urlsplit

import click

from fer_edge import __version__
from fer_edge._base.command import CommandGroup
from fer_edge._base.findings import print_findings
from fer_edge._base.sections import section
from fer_edge.contract import Description
from fer_edge.errors import DataError, RunError
from fer_edge.inference.flags import description_options, detector_options
from fer_edge.inference.locate import DetectorName
from fer_train.data.emotions import LABEL_PRESETS, make_labelling, parse_labels_map
from fer_train.data.group_patterns import GROUP_PATTERNS
from fer_train.detection.settings import (
    DetectorSettings,
    LossWeights,
    TileSettings,
    read_settings,
    recipe_of,
)
from fer_train.run.recipes import (
    KERAS_MODELS,
    LARGEST_SEED,
    LOGS,
    MODEL_NAMES,
    PROTOCOL_DEFAULTS,
    THESIS_MODELS,
    Protocol,
    Recipe,
    default_text,
    read_overrides,
    recipe_for,
    to_toml,
)

if TYPE_CHECKING:
    from fer_train.data.load import Dataset
    from fer_train.export.publish import Forms
    from fer_train.export.sources import Pictures, Source
    from fer_train.run.evaluation import ModelEvaluation
    from fer_train.run.folder import Run, RunFold

F = TypeVar("F", bound=Callable[..., Any])

_LAYOUTS = ("folders", "jaffe", "ckplus", "kdef", "rafdb")
DEFAULT_RUN = Path("runs/default")
EXPORTED = Path("exported")
SEED = click.IntRange(0, LARGEST_SEED)

layout_option = click.option(
    "--layout",
    type=click.Choice(_LAYOUTS),
    default="folders",
    show_default=True,
    help="How pictures name their emotions. folders: the nearest folder that means one.",
)


class NameList(click.ParamType[tuple[str, ...]]):
    """A comma-separated list of names, from a fixed set where there is one."""

    name = "names"

    def __init__(self, allowed: tuple[str, ...] = ()) -> None:
        """Take the names that are allowed; all are where none is given."""
        self.allowed = allowed

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Split and check the list."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        if not names:
            expected = f"some of {', '.join(self.allowed)}" if self.allowed else "names"
            self.fail(f"expected {expected}, received none")
        if unknown := [name for name in names if self.allowed and name not in self.allowed]:
            self.fail(f"expected {', '.join(self.allowed)}, received {', '.join(unknown)}")
        return names


class LabelsMap(click.ParamType[tuple[str, ...]]):
    """What names in a data set mean: pairs, presets, or a TOML file of them."""

    name = "labels map"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Read the pairs."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_labels_map(value)
        except DataError as error:
            self.fail(error.message)


class SeedList(click.ParamType[tuple[int, ...]]):
    """A comma-separated list of different seeds."""

    name = "seeds"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Split and check the list."""
        if isinstance(value, tuple):
            return value
        seeds = tuple(SEED.convert(part.strip(), param, ctx) for part in value.split(","))
        if len(set(seeds)) < len(seeds):
            self.fail(f"expected seeds that differ, received {value}")
        return seeds


_DATA, _OTHERWISE, _RUNNING, _EXPORTING = "Data and folds", "Training", "Running", "Export"
_SECTIONS = {
    **dict.fromkeys(("pool", "grouping", "steer", "inner"), _DATA),
    **dict.fromkeys(("preprocessing", "weights", "head", "normalization", "l2"), "Network"),
    **dict.fromkeys(
        ("augmentation", "erasing", "mixup", "label_smoothing", "balance", "votes_share"),
        "Images and targets",
    ),
    **dict.fromkeys(("teacher_weight", "views"), "Teachers"),
}
"""The heading in help of a setting."""


def _setting_options(
    settings: type, skip: tuple[str, ...] = (), heading: str = _OTHERWISE
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


run_option = click.option(
    "--run",
    "run_folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_RUN,
    show_default=True,
    help="Run folder; the same command on the same folder goes on where it was.",
)


store_option = click.option(
    "--store",
    metavar="ADDRESS",
    help="Copy of the run folder in object storage, such as s3://bucket/run: folds go on from it "
    "and send each epoch to it. Of two processes on different machines none sees the other there.",
)


log_option = click.option(
    "--log",
    "logs",
    type=NameList(LOGS),
    default=(),
    help="Experiment trackers that are told of each epoch: mlflow, tensorboard, or both with a "
    "comma. MLflow keeps it where MLFLOW_TRACKING_URI says; TensorBoard's --logdir is the run "
    "folder.",
)


votes_option = click.option(
    "--votes",
    type=click.Path(exists=True, dir_okay=False),
    help="What people saw in each image: FER+'s fer2013new.csv, or a csv with a column file and "
    "one for each emotion. Models are taught and scored by it.",
)


classes_option = click.option(
    "--classes",
    type=NameList(),
    metavar="NAME,NAME,...",
    help="What is told apart, in order: emotions or any other names. Images of other emotions are "
    "left out. [default: the seven emotions, and what else --labels-map names; that alone where it "
    "names none of the seven]",
)


groups_option = click.option(
    "--groups",
    metavar="FILE.csv|PATTERN",
    help="The person or clip of each image: none is on two sides of a split. A csv with the "
    "columns file and group; a regular expression, of whose match in a name the first group "
    f"counts; or a known pattern: {', '.join(GROUP_PATTERNS)}.",
)


labels_map_option = click.option(
    "--labels-map",
    type=LabelsMap(),
    metavar="FILE.toml|NAME=CLASS,...",
    help="What other names and numbers of labels mean; NAME= leaves images out. Or a data set by "
    f"name: {', '.join(LABEL_PRESETS)}.",
)


export_dir_option = click.option(
    "--export-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the ONNX files go; what is there is replaced. [default: exported, or RUN/exported "
    "where that would replace a model of another training]",
)


licence_option = click.option(
    "--licence",
    default="",
    metavar="SPDX",
    help="Licence of the weights, for the files' metadata and cards, such as MIT.",
)


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="fer-train")
def main() -> None:
    """Train facial emotion models on FER-2013 by cross-validation and export them to ONNX."""


config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TOML file of settings; flags win over it.",
)

recipe_options = _setting_options(Recipe, skip=("name",))
_TEACHING = ("teacher_weight", "views")
"""Settings of `fer-train distill` alone."""


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
        config_option,
        click.option(
            "--folds",
            type=click.IntRange(1),
            help="1: the data set's own split, Training against PublicTest and PrivateTest. "
            f"[default: {Protocol.folds}]",
        ),
        votes_option,
        groups_option,
        click.option("--limit", type=click.IntRange(1), help="Most images used. [default: all]"),
        click.option("--seed", type=SEED, help="Of all that is drawn by chance. [default: 0]"),
        click.option(
            "--split-seed",
            type=SEED,
            help="Of the sample and the folds, where it is another: several seeds on the same "
            "folds tell their spreads apart. [default: --seed]",
        ),
        classes_option,
        labels_map_option,
        click.option("--drop", type=NameList(), help="Classes left out, with commas."),
    ]
    function = _setting_options(Recipe, skip=("name", *_TEACHING))(function)
    named = (
        *("data", "folds", "limit", "seed", "split_seed", "classes", "labels_map", "drop"),
        *("votes", "groups"),
    )
    function = _setting_options(Protocol, skip=named)(function)
    return section(_DATA, *options)(function)


def plan_options(function: F) -> F:
    """Add the options that say what a run is made of."""
    return data_options(section(_RUNNING, run_option, store_option)(function))


@contextmanager
def _usage() -> Iterator[None]:
    """Turn what is wrong with a setting into wrong usage, which exits with 2."""
    try:
        yield
    except DataError as error:
        raise click.UsageError(error.message) from error


def _plan(
    data: str,
    models: tuple[str, ...],
    recipe: str,
    config: Path | None,
    run_folder: Path,
    store: str | None,
    flags: dict[str, Any],
    check: "Callable[[Mapping[str, Recipe], int], None]" = lambda recipes, classes: None,
) -> "tuple[Run, Dataset]":
    """Plan a run, or go on with it; ``check`` sees the recipes before anything is written."""
    from fer_train.run.plan import load_images, plan_run
    from fer_train.run.store import Store

    protocol, recipes = _read_settings(data, models, recipe, config, flags)
    there = Store(store) if store else None
    if there:
        there.fetch_plan(run_folder)
    dataset = load_images(protocol)
    _tell_of_left_out(dataset)
    _tell_of_votes(dataset)
    check(recipes, len(protocol.labels))
    run = plan_run(run_folder, protocol, recipes, dataset)
    _tell_of_groups(run, dataset)
    if there:
        run = dataclasses.replace(run, store=store)
        there.send_plan(run)
        there.exchange_done(run)
    return run, dataset


def _read_settings(
    data: str, models: tuple[str, ...], recipe: str, config: Path | None, flags: dict[str, Any]
) -> tuple[Protocol, dict[str, Recipe]]:
    """Return what flags, the file of settings and the recipe say, in this order."""
    given = {name: value for name, value in flags.items() if value is not None}
    protocol_fields = {field.name for field in dataclasses.fields(Protocol)}
    with _usage():
        common = read_overrides(config, "") if config else {}
    settings = PROTOCOL_DEFAULTS[recipe] | common | given
    with _usage():
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
            for name in _TEACHING:
                if getattr(recipes[model], name):
                    flag = f"--{name.replace('_', '-')}"
                    raise click.UsageError(f"{flag} is for fer-train distill, which has a teacher")
            _check_votes_share(recipes[model], protocol)
    return protocol, recipes


def _check_votes_share(recipe: Recipe, protocol: Protocol) -> None:
    if recipe.votes_share != 1 and protocol.votes is None:
        raise click.UsageError("--votes-share is for --votes, which brings votes")


def _tell_of_left_out(dataset: "Dataset") -> None:
    """Say how many images are of no class."""
    if dataset.left_out:
        counts = ", ".join(f"{count:,} of {name}" for name, count in dataset.left_out.items())
        click.echo(f"left out, being of no class: {counts}", err=True)


def _tell_of_groups(run: "Run", dataset: "Dataset") -> None:
    """Say what keeps images of one person or clip together, or warn that nothing does."""
    if dataset.groups is not None:
        groups = len(set(dataset.groups.tolist()))
        click.echo(f"{groups:,} groups of {len(dataset):,} images are kept together", err=True)
        return
    from fer_train.data.groups import suspected_groups

    if reason := suspected_groups(dataset.names, dataset.images, dataset.labels):
        click.echo(
            f"warning: images seem to be of few people or clips: {reason}. Where one is on both "
            "sides of a split, scores are too good; --groups keeps each on one side",
            err=True,
        )


def _tell_of_votes(dataset: "Dataset") -> None:
    """Say how many images votes keep out of training, and why."""
    if dataset.votes is None:
        return
    from fer_train.data.votes import vote_targets

    targets = vote_targets(dataset.votes, dataset.label_names)
    out = [f"{count:,} {reason}" for reason, count in targets.reasons.items() if count]
    kept_out = f"; kept out: {', '.join(out)}" if out else ""
    click.echo(
        f"votes teach {targets.trains.sum():,} of {len(dataset):,} images{kept_out}", err=True
    )


def _check_weights(recipes: Mapping[str, Recipe], classes: int) -> None:
    """Look for weights to start from before the first fold of any model, not in mid-run."""
    needed = {
        model: recipe
        for model, recipe in recipes.items()
        if model in KERAS_MODELS and recipe.weights != "none"
    }
    if needed:
        from fer_train.network.models import check_pretrained

        for model, recipe in needed.items():
            check_pretrained(model, recipe, classes)


@main.command()
@click.option("--model", type=click.Choice(MODEL_NAMES), required=True)
@click.option("--fold", "index", type=click.IntRange(0), required=True, help="From 0.")
@click.option("--data", help="Where the run's data set lies on this machine.")
@click.option("--ends-with-parent", is_flag=True, hidden=True)
@run_option
@store_option
@log_option
def fold(
    model: str,
    index: int,
    data: str | None,
    ends_with_parent: bool,
    run_folder: Path,
    store: str | None,
    logs: tuple[str, ...],
) -> None:
    """Train one fold of a planned run, from its last epoch if it has begun."""
    from fer_train.run.folder import open_run
    from fer_train.run.plan import load_run_images
    from fer_train.run.store import Store
    from fer_train.train.schedule import run_for_parent, run_here

    if store:
        Store(store).fetch_plan(run_folder)
    _check_logs(logs)
    run = dataclasses.replace(open_run(run_folder), store=store, logs=logs)
    if model not in run.recipes:
        raise click.BadParameter(
            f"{run_folder} has {', '.join(run.recipes)}, received {model}", param_hint="--model"
        )
    if index >= len(run.folds):
        raise click.BadParameter(
            f"expected 0 to {len(run.folds) - 1}, received {index}", param_hint="--fold"
        )
    chosen = run.fold(model, index)
    dataset = load_run_images(run, data)
    if ends_with_parent:
        run_for_parent(dataset, chosen)
        return
    run_here(dataset, [chosen])
    click.echo(f"{chosen.id}: top-1 {chosen.score['accuracy']:.4f}")


@main.command()
@plan_options
def plan(
    data: str,
    models: tuple[str, ...],
    recipe: str,
    config: Path | None,
    run_folder: Path,
    store: str | None,
    **flags: Any,
) -> None:
    """Set up a run folder, for `fer-train fold` on one machine or many."""
    from fer_train.run.folder import locked_run

    with locked_run(run_folder):
        run, _ = _plan(data, models, recipe, config, run_folder, store, flags)
    click.echo(f"{run.folder}: {len(run.folds)} folds of {', '.join(run.recipes)}")


def _resource(context: Any, parameter: Any, value: float) -> float:
    if value < 0 or (value > 1 and not value.is_integer()):
        raise click.BadParameter(f"expected a part of one, or a whole number, received {value:g}")
    return value


@main.command()
@click.option(
    "--recipe", type=click.Choice(sorted(PROTOCOL_DEFAULTS)), default="modern", show_default=True
)
@click.option(
    "--model",
    "models",
    type=NameList(MODEL_NAMES),
    default=",".join(THESIS_MODELS),
    show_default=True,
    help=f"One, or several with commas, of {', '.join(MODEL_NAMES)}.",
)
@click.option("--weights", default="", help="As for `fer-train all`; moves other defaults.")
def settings(recipe: str, models: tuple[str, ...], weights: str) -> None:
    """Print all settings of a recipe as TOML, to be changed and given to --config."""
    given = {"weights": weights} if weights else {}
    with _usage():
        recipes = {model: recipe_for(recipe, model, given) for model in models}
    protocol = Protocol(data="", **PROTOCOL_DEFAULTS[recipe])
    click.echo(to_toml(protocol, recipes), nl=False)


@main.command("all")
@plan_options
@section(
    _DATA,
    click.option(
        "--seeds",
        type=SeedList(),
        help="Train from each of these seeds on the same folds, such as 0,1,2, in RUN/seed-0 and "
        "so on; the first one's models are exported.",
    ),
)
@section(
    _RUNNING,
    click.option(
        "--jobs",
        type=click.IntRange(1),
        help="Processes at a time, each of which trains folds of one model in turn.",
    ),
    click.option("--ray", "ray_address", metavar="ADDRESS|local", help="Run the folds on Ray."),
    click.option(
        "--ray-cpus", default=1.0, show_default=True, callback=_resource, help="Cores of a fold."
    ),
    click.option(
        "--ray-gpus", default=0.0, show_default=True, callback=_resource, help="GPUs of a fold."
    ),
    log_option,
    click.option(
        "--emit",
        type=click.Choice(["slurm", "kubernetes"]),
        help="Train nothing; write a job file of `fer-train fold` commands to standard output.",
    ),
    click.option(
        "--estimate",
        "estimate_only",
        is_flag=True,
        help="Train nothing and leave nothing; time a few steps of each model and print how long "
        "the folds that are left would take, one after the other.",
    ),
)
@section(
    _EXPORTING,
    export_dir_option,
    licence_option,
    click.option("--int8", is_flag=True, help="As for `fer-train export`."),
    click.option("--no-export", is_flag=True, help="Leave out the export of the best folds."),
)
def train_all(
    data: str,
    models: tuple[str, ...],
    recipe: str,
    config: Path | None,
    run_folder: Path,
    store: str | None,
    seeds: tuple[int, ...] | None,
    jobs: int | None,
    ray_address: str | None,
    ray_cpus: float,
    ray_gpus: float,
    logs: tuple[str, ...],
    emit: str | None,
    estimate_only: bool,
    export_dir: Path | None,
    licence: str,
    int8: bool,
    no_export: bool,
    **flags: Any,
) -> None:
    """Cross-validate models and export the best fold of each to ONNX."""
    if sum(map(bool, (jobs, ray_address, emit, estimate_only))) > 1:
        raise click.UsageError("--jobs, --ray, --emit and --estimate exclude one another")
    if not ray_address and (ray_cpus, ray_gpus) != (1.0, 0.0):
        raise click.UsageError("--ray-cpus and --ray-gpus are for --ray")
    if int8 and no_export:
        raise click.UsageError("--int8 and --no-export exclude one another")
    if seeds and (emit or flags["seed"] is not None):
        raise click.UsageError(
            "--seeds excludes --seed and --emit; for job files of several seeds give --emit with "
            "each --seed, a --run of its own and the same --split-seed"
        )
    if estimate_only:
        _estimate(data, models, recipe, config, run_folder, flags)
        return
    from fer_train.run.folder import CONFIG, SEED_FOLDER, FoldId, locked_run
    from fer_train.run.plan import pending
    from fer_train.train import schedule

    if not emit:
        _check_logs(logs)
    parts = {"": flags}
    if seeds:
        if (run_folder / CONFIG).is_file():
            raise RunError(
                f"{run_folder} holds a run of one seed; choose another --run for several"
            )
        split_seed = seeds[0] if flags["split_seed"] is None else flags["split_seed"]
        parts = {
            SEED_FOLDER.format(seed): {**flags, "seed": seed, "split_seed": split_seed}
            for seed in seeds
        }

    def report(fold_id: FoldId) -> None:
        click.echo(f"{fold_id} is done", err=True)

    runs = []
    for part, own in parts.items():
        place, there = run_folder / part, store
        if store and part:
            address, mark, options = store.partition("?")
            there = f"{address.rstrip('/')}/{part}{mark}{options}"
        with locked_run(place):
            check = _check_weights if not emit else lambda recipes, classes: None
            run, dataset = _plan(data, models, recipe, config, place, there, own, check)
            run = dataclasses.replace(run, logs=logs)
            folds = pending(run, models)
            if emit:
                _emit_jobs(emit, run, folds)
                return
            total = len(models) * len(run.folds)
            click.echo(f"{run.folder}: {total - len(folds)} of {total} folds are done", err=True)
            if ray_address:
                from fer_train.train.ray_cluster import run_on_ray

                run_on_ray(run, dataset, folds, ray_address, report, cpus=ray_cpus, gpus=ray_gpus)
            elif jobs:
                if folds:
                    click.echo(_tell_of_jobs(jobs, len(folds)), err=True)
                schedule.run_in_subprocesses(folds, jobs, report)
            else:
                schedule.run_here(dataset, folds)
        runs.append(run)
    _write_results(run_folder, runs)
    _print_scores(runs, models)
    if not no_export:
        _publish(runs[0], models, export_dir, licence=licence, int8=int8)


def _check_logs(kinds: Sequence[str]) -> None:
    """Look for the trackers' packages before the first fold."""
    if kinds:
        from fer_train.train.logs import check_log

        for kind in kinds:
            check_log(kind)


def _write_results(folder: Path, runs: "Sequence[Run]") -> None:
    """Write the table of all folds that are done of a run, or of its seeds."""
    from fer_train.run.evaluation import evaluate_run, run_names
    from fer_train.run.folder import RESULTS, write_text
    from fer_train.run.record import results_csv

    evaluations = [each for run in runs for each in evaluate_run(run, partial=True)]
    write_text(folder / RESULTS, results_csv(evaluations, run_names(evaluations)))


def _emit_jobs(kind: str, run: "Run", folds: "Sequence[RunFold]") -> None:
    from fer_train.train import job_files

    write = job_files.slurm_script if kind == "slurm" else job_files.kubernetes_job
    click.echo(write(run, folds), nl=False)
    if run.store and urlsplit(run.store).password:
        click.echo(
            "The job file holds the keys in --store; keep it to yourself, or leave them "
            "out and let the jobs find them as the storage's own tools do",
            err=True,
        )


@main.command()
@data_options
@section(
    "Search",
    click.option(
        "--search",
        "searched",
        multiple=True,
        metavar="SETTING=LOW:HIGH|A,B,C",
        help="What a setting may be; once for each. [default: learning rate, weight decay, label "
        "smoothing, augmentation, erasing, mixup and batch size, around the recipe's own]",
    ),
    click.option(
        "--trials",
        type=click.IntRange(1),
        default=20,
        show_default=True,
        help="In all, those of earlier commands on the same RUN included.",
    ),
    click.option(
        "--hours",
        type=click.FloatRange(0, min_open=True),
        help="Most time of this command; the trial that it ends goes on next time.",
    ),
)
@section(_RUNNING, run_option)
def tune(
    data: str,
    models: tuple[str, ...],
    recipe: str,
    config: Path | None,
    searched: tuple[str, ...],
    trials: int,
    hours: float | None,
    run_folder: Path,
    **flags: Any,
) -> None:
    """Search for the settings of one model with Optuna; write RUN/best.toml for --config.

    Trials train on the first fold and are judged by its inner images, which steer training; those
    that the fold holds out are never seen. What is given as a flag is the same in all trials. The
    same command on the same RUN goes on where it was.
    """
    if len(models) != 1 or models[0] not in KERAS_MODELS:
        raise click.UsageError(
            f"expected one network to search for, of {', '.join(KERAS_MODELS)}; give --models edge"
        )
    protocol, recipes = _read_settings(data, models, recipe, config, flags)
    (own,) = recipes.values()
    from fer_train.run.plan import load_images
    from fer_train.train.tune import Search, default_ranges, parse_range

    with _usage():
        ranges = [parse_range(text, models[0]) for text in searched] or [
            each for each in default_ranges(own) if flags[each.name] is None
        ]
        if repeated := {one.name for one in ranges if sum(one.name == o.name for o in ranges) > 1}:
            raise click.UsageError(f"--search names {', '.join(sorted(repeated))} twice")
        search = Search(run_folder, protocol, models[0], own, ranges)
    _check_weights(recipes, len(protocol.labels))
    dataset = load_images(protocol)
    _tell_of_left_out(dataset)
    _tell_of_votes(dataset)
    search.run(dataset, trials, hours, partial(click.echo, err=True))
    if search.best_file.is_file():
        click.echo(search.best_file)


def _tell_of_jobs(jobs: int, folds: int) -> str:
    return (
        f"{min(jobs, folds)} at a time: each process trains folds of one model in turn, takes "
        "memory of a GPU as it needs it, and ends when no fold of its model is left"
    )


def _estimate(
    data: str,
    models: tuple[str, ...],
    recipe: str,
    config: Path | None,
    run_folder: Path,
    flags: dict[str, Any],
) -> None:
    """Print how long a run would take."""
    from fer_train.run.folder import CONFIG, open_run
    from fer_train.run.plan import pending
    from fer_train.train.estimate import estimate_model
    from fer_train.train.progress import format_duration

    with tempfile.TemporaryDirectory() as folder:
        run, dataset = _plan(data, models, recipe, config, Path(folder) / "run", None, flags)
        folds = pending(run, models)
        if (run_folder / CONFIG).is_file():
            there = open_run(run_folder)
            there.check_same(run)
            folds = [fold for fold in folds if not there.fold(*fold.id).is_done]
        total_s = 0.0
        for model in models:
            own = [fold for fold in folds if fold.model == model]
            if model not in KERAS_MODELS or not own:
                reason = "is not timed" if own else "has no fold left"
                click.echo(f"{model:<12}{reason}")
                continue
            estimate = estimate_model(own, dataset)
            total_s += estimate.total_s
            click.echo(f"{model:<12}{estimate}")
    click.echo(f"{'all':<12}{format_duration(total_s)} in one process, one fold after the other")


@main.command()
@click.argument(
    "teacher_paths",
    metavar="RUN|FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True),
)
@click.option("--student", type=click.Choice(KERAS_MODELS), default="edge", show_default=True)
@click.option(
    "--teachers", type=NameList(MODEL_NAMES), help="Models of RUN that teach; all by default."
)
@click.option("--export-dir", type=click.Path(path_type=Path, file_okay=False))
@licence_option
@click.option("--data", help="Where RUN's data set lies on this machine; needed with FILE.")
@config_option
@click.option("--seed", type=SEED, help="Of all that is drawn by chance. [default: 0]")
@run_option
@votes_option
@groups_option
@classes_option
@labels_map_option
@_setting_options(
    Protocol,
    skip=(
        *("data", "limit", "pool", "classes", "labels_map", "drop", "folds", "seed"),
        *("split_seed", "votes", "groups"),
    ),
)
@recipe_options
def distill(
    teacher_paths: tuple[Path, ...],
    student: str,
    teachers: tuple[str, ...] | None,
    export_dir: Path | None,
    licence: str,
    data: str | None,
    config: Path | None,
    run_folder: Path,
    **flags: Any,
) -> None:
    """Teach one student the averaged out-of-fold answers of RUN's fold models.

    The student trains on Training and is tested on PublicTest, so RUN should be a cross-validation
    with --pool training. FILE.keras in its place are finished models whose mean answer to each
    image as augmentation has just changed it, and to its mirror image, is taught. With --views N
    they answer N changed versions of each image once, ahead of training, and may be FILE.onnx.
    """
    from fer_train.run.folder import locked_run, open_run
    from fer_train.run.plan import load_images, pending, plan_run
    from fer_train.train.distill import folds_as_teacher, models_as_teacher
    from fer_train.train.schedule import run_here

    folders = [path for path in teacher_paths if path.is_dir()]
    if folders and len(teacher_paths) > 1:
        raise click.UsageError("expected one run or files as teachers")
    teacher = open_run(folders[0]) if folders else None
    if teachers and (teacher is None or set(teachers) - set(teacher.recipes)):
        known = f"of {', '.join(teacher.recipes)}" if teacher else "of a RUN"
        raise click.BadParameter(
            f"expected models {known}, received {', '.join(teachers)}", param_hint="--teachers"
        )
    source = data or (teacher.protocol.data if teacher else None)
    if source is None:
        raise click.UsageError("expected --data where the teacher is a file")
    given = {name: value for name, value in flags.items() if value is not None}
    with _usage():
        given = (read_overrides(config, student) if config else {}) | given
    if teacher and given.get("views"):
        raise click.UsageError("--views is for files as teachers; a run's folds answer once anyway")
    if given.pop("folds", 1) != 1 or {"limit", "pool", "drop", "split_seed"} & given.keys():
        raise click.UsageError(
            f"expected no limit, pool, drop and split_seed, and folds = 1, in {config}: a student "
            "has those of its teacher, and the data set's own split"
        )
    if teacher and {"classes", "labels_map"} & given.keys():
        raise click.UsageError(
            "--classes and --labels-map are for files as teachers; a student has RUN's classes"
        )
    usual: dict[str, Any] = {"seed": 0, "votes": None, "groups": None, "steer": "inner"}
    split = PROTOCOL_DEFAULTS["modern"] | usual
    if teacher:
        # What was left out of the teacher's training is no class of the student's either.
        classes: dict[str, Any] = {
            name: getattr(teacher.protocol, name) for name in ("classes", "labels_map", "drop")
        }
    else:
        classes = {name: given.pop(name) for name in ("classes", "labels_map") if name in given}
    split = split | {name: given.pop(name) for name in split if name in given}
    with _usage():
        protocol = Protocol(
            data=source,
            limit=teacher.protocol.limit if teacher else None,
            folds=1,
            **classes,
            **split,
        )
        recipe = recipe_for("modern", student, {"teacher_weight": 0.7} | given)
    _check_votes_share(recipe, protocol)
    with locked_run(run_folder):
        dataset = load_images(protocol)
        _tell_of_left_out(dataset)
        _tell_of_votes(dataset)
        if teacher:
            models = teachers or tuple(teacher.recipes)
            teach = folds_as_teacher(teacher, models, protocol, dataset, data)
        else:
            teach = models_as_teacher(teacher_paths, protocol.labels, recipe.views)
        # A teacher that is refused leaves no run behind.
        run = plan_run(
            run_folder, protocol, {student: recipe}, dataset, "folds" if teacher else "files"
        )
        facts = teach(run)
        if "accuracy" in facts:
            shown = f"teacher: top-1 {facts['accuracy']:.4f} on images that it did not train on"
            click.echo(shown, err=True)
        run_here(dataset, pending(run, [student]))
    _print_scores([run], [student])
    if export_dir:
        _publish(run, (student,), export_dir, licence=licence, data=data)


@main.command()
@section(
    _DATA,
    click.option(
        "--data",
        multiple=True,
        required=True,
        type=click.Path(path_type=Path, exists=True),
        metavar="FOLDER|ZIP",
        help="Pictures and what is in them: a boxes.csv, WIDER FACE's text file, or YOLO's text "
        "files; told by the content. More than once for several.",
    ),
    click.option(
        "--held-out",
        type=click.Path(path_type=Path, exists=True),
        metavar="FOLDER|ZIP",
        help="Such pictures that judge. [default: a share of --data, by --inner]",
    ),
    click.option(
        "--teacher",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="YUNET.onnx",
        help="Labels the pictures of which nobody has said what they hold, with scores as soft "
        "targets; what it finds beside people's boxes is ignored.",
    ),
    click.option(
        "--crops",
        metavar="DATA",
        help="FER-2013, as for fer-train all: its Training images serve as near faces, above all "
        "those that --weights and --teacher find hard.",
    ),
    click.option("--limit", type=click.IntRange(1), help="Most pictures used. [default: all]"),
)
@section(
    "Network",
    click.option(
        "--weights",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help="Weights to begin with: .keras, or .npz by name. [default: drawn by chance]",
    ),
)
@_setting_options(DetectorSettings)
@_setting_options(TileSettings, heading="Tiles")
@_setting_options(LossWeights, heading="Loss")
@section(
    _RUNNING,
    click.option(
        "--config",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="TOML file of settings, such as configs/face.toml; flags win over it.",
    ),
    run_option,
)
@section(
    _EXPORTING,
    click.option(
        "--export-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where face.onnx goes too; one that is there is replaced. [default: RUN/exported]",
    ),
    licence_option,
)
def detector(
    data: tuple[Path, ...],
    held_out: Path | None,
    teacher: Path | None,
    crops: str | None,
    limit: int | None,
    weights: Path | None,
    config: Path | None,
    run_folder: Path,
    export_dir: Path | None,
    licence: str,
    **flags: Any,
) -> None:
    """Train a face detector, judge it, report on it and export it to ONNX."""
    with _usage():
        given = {name: value for name, value in flags.items() if value is not None}
        recipe = recipe_of((read_settings(config) if config else {}) | given)
    from fer_train.detection.run import Sources, export_run, train_detector
    from fer_train.report.detector import build_detector_report
    from fer_train.report.document import save

    sources = Sources(data, limit, held_out, weights, teacher, crops)
    metrics = train_detector(run_folder, recipe, sources, partial(click.echo, err=True))
    for row in metrics.get("at", ()):
        if row["threshold"] == metrics["threshold"]:
            click.echo(
                f"threshold {row['threshold']:.2f}: {row['recall']:.1%} of {metrics['faces']} "
                f"faces found, {row['false_empty']} false boxes in {metrics['empty']} pictures "
                f"without a face, {row['false_elsewhere']} elsewhere"
            )
    _echo_paths(save(build_detector_report(run_folder), run_folder / "report", "report"))
    click.echo(export_run(run_folder, export_dir or run_folder / "exported", licence))


def output_option(default: str) -> Callable[[F], F]:
    """Return a decorator that adds the folder for a document."""
    return click.option(
        "--output",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path(default),
        show_default=True,
        help="Folder for the Markdown, the page and the pictures; older ones are replaced.",
    )


@main.command()
@click.option("--data", required=True, help="As for `fer-train all`.")
@votes_option
@classes_option
@labels_map_option
@click.option("--limit", type=click.IntRange(1), help="Look at no more images.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@output_option("explore")
def explore(
    data: str,
    votes: str | None,
    classes: tuple[str, ...] | None,
    labels_map: tuple[str, ...] | None,
    limit: int | None,
    seed: int,
    output: Path,
) -> None:
    """Look at a data set before training: samples, counts, copies and faults."""
    from fer_train.data.load import load_dataset
    from fer_train.report.document import save
    from fer_train.report.explore import explore_dataset

    with _usage():
        labelling = make_labelling(classes or (), labels_map or ())
    dataset = load_dataset(data, limit=limit, seed=seed, votes=votes, labelling=labelling)
    _tell_of_left_out(dataset)
    document = explore_dataset(dataset, seed)
    _echo_paths(save(document, output, "explore"))


@main.command("prepare")
@click.argument(
    "sources",
    nargs=-1,
    required=True,
    metavar="FOLDER|VIDEO...",
    type=click.Path(path_type=Path, exists=True),
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the faces and faces.csv; empty, or not there yet.",
)
@layout_option
@classes_option
@labels_map_option
@detector_options
@click.option(
    "--margin",
    type=click.FloatRange(0, 2),
    default=0.0,
    show_default=True,
    help="Share of a face's longer side added on each side.",
)
@click.option(
    "--fps",
    "frames_per_s",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="Frames of a video's second that are taken.",
)
def prepare_command(
    sources: tuple[Path, ...],
    output: Path,
    layout: str,
    classes: tuple[str, ...] | None,
    labels_map: tuple[str, ...] | None,
    detector: DetectorName,
    detector_model: Path | None,
    margin: float,
    frames_per_s: float,
) -> None:
    """Cut the faces out of pictures and videos, as a data set to train on.

    The largest face of each picture, and of some frames of each video, is turned upright and cut as
    fer-edge does, grey and 48 x 48. OUTPUT/faces.csv keeps what each came from, and what had no
    face; --groups OUTPUT/faces.csv keeps the frames of a video together.
    """
    from fer_edge.contract import ModelSpec
    from fer_edge.inference.detectors import open_detector
    from fer_train.data.prepare import prepare_faces

    with _usage():
        labelling = make_labelling(classes or (), labels_map or ())
    finder = open_detector(detector, detector_model)
    made = prepare_faces(
        sources,
        output,
        finder,
        layout=layout,
        labelling=labelling,
        labels_map=labels_map or (),
        spec=ModelSpec(margin=margin),
        frames_per_s=frames_per_s,
    )
    for reason, count in sorted(made.skipped.items()):
        click.echo(f"left out: {count:,} x {reason}", err=True)
    for error in made.errors:
        click.echo(error, err=True)
    counts = ", ".join(f"{count:,} of {label}" for label, count in sorted(made.faces.items()))
    click.echo(f"{made.faces.total():,} faces ({counts or 'none'})", err=True)
    if made.no_face:
        click.echo(f"{made.no_face:,} pictures and frames without a face that was found", err=True)
    click.echo(made.table)
    if made.errors:
        sys.exit(1)


runs_argument = click.argument(
    "run_folders",
    nargs=-1,
    required=True,
    metavar="RUN...",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
)
partial_option = click.option(
    "--partial", "only_done", is_flag=True, help="Take the folds that are done."
)


@main.command()
@runs_argument
@partial_option
@click.option(
    "--images",
    is_flag=True,
    help="Show images of the data set too: the surest errors, the most disputed, where the "
    "network looks (Grad-CAM), and how it sorts them (t-SNE).",
)
@click.option("--data", help="Where the data set lies on this machine, for --images.")
@output_option("report")
def report(
    run_folders: tuple[Path, ...], only_done: bool, images: bool, data: str | None, output: Path
) -> None:
    """Report on one run or several: scores, tests, curves, and the thesis's figures beside ours."""
    from fer_train.report.document import save
    from fer_train.run.folder import run_task

    if any(run_task(folder) for folder in run_folders):
        from fer_train.report.detector import build_detector_report

        if len(run_folders) > 1:
            raise click.UsageError("expected a detector's run alone")
        _echo_paths(save(build_detector_report(run_folders[0]), output, "report"))
        return
    from fer_train.report.runs import build_report
    from fer_train.run.plan import load_run_images

    if data and not images:
        raise click.UsageError("--data is for --images")
    load = partial(load_run_images, data=data) if images else None
    document = build_report(_evaluations(run_folders, only_done), load)
    _echo_paths(save(document, output, "report"))


def _evaluations(folders: Sequence[Path], only_done: bool) -> "list[ModelEvaluation]":
    """Evaluate the models of runs, those of several seeds run by run."""
    from fer_train.run.evaluation import evaluate_run
    from fer_train.run.folder import open_run, runs_in

    found = [run for folder in folders for run in runs_in(folder)]
    return [
        evaluation
        for folder in {path.resolve(): path for path in found}.values()
        for evaluation in evaluate_run(open_run(folder), partial=only_done)
    ]


@main.command()
@runs_argument
@partial_option
def compare(run_folders: tuple[Path, ...], only_done: bool) -> None:
    """Compare the models of one run or several in tables: scores, intervals, tests, seeds."""
    from fer_train.report.compare import (
        difference_blocks,
        model_names,
        score_blocks,
        score_columns,
        seed_blocks,
    )
    from fer_train.report.document import Text, to_text
    from fer_train.report.votes import vote_blocks

    evaluations = _evaluations(run_folders, only_done)
    names = model_names(evaluations)
    columns = score_columns(evaluations, names)
    blocks = [
        *score_blocks(columns),
        # What the scores mean is told in the report.
        *(block for block in vote_blocks(columns) if not isinstance(block, Text)),
        *seed_blocks(evaluations, names),
        *difference_blocks(evaluations, names),
    ]
    click.echo(to_text(blocks), nl=False)


@main.command()
@click.argument("source", metavar="MODEL.onnx|RUN", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder of a data set that the model has not seen.",
)
@layout_option
@labels_map_option
@detector_options
@click.option("--model", type=click.Choice(KERAS_MODELS), help="Which model of a RUN with several.")
@click.option("--fold", type=click.IntRange(0), help="One fold of RUN alone, not their average.")
@click.option(
    "--pages",
    type=click.IntRange(0),
    default=25,
    show_default=True,
    help="Most pages of twelve pictures beside their bars.",
)
@output_option("predictions")
def predict(
    source: Path,
    data: Path,
    layout: str,
    labels_map: tuple[str, ...] | None,
    detector: DetectorName,
    detector_model: Path | None,
    model: str | None,
    fold: int | None,
    pages: int,
    output: Path,
) -> None:
    """Judge unseen pictures with an ONNX file, or with the averaged folds of a RUN."""
    from fer_edge.inference.detectors import open_detector
    from fer_train.data.layouts import load_layout
    from fer_train.report.document import save
    from fer_train.report.predict import answer_pictures, describe_answers, open_model

    chosen = open_model(source, model, fold)
    pictures = load_layout(data, layout, chosen.spec.labels, labels_map or ())
    finder = open_detector(detector, detector_model)
    answers = answer_pictures(chosen, pictures.pictures, finder)
    title = f"{data.resolve().name} ({layout}) judged by {chosen.name}"
    document = describe_answers(answers, chosen.spec.labels, pictures, data, title, pages)
    _echo_paths(save(document, output, "predictions"))
    if faceless := sum(answer.status == "no_face" for answer in answers):
        click.echo(
            f"In {faceless} of {len(answers)} pictures no face was found; where each picture is a "
            "face already, give --detector none",
            err=True,
        )
    failed = [answer for answer in answers if answer.error is not None]
    for answer in failed:
        click.echo(f"{answer.picture.path}: {answer.error}", err=True)
    if failed:
        sys.exit(1)


def _echo_refused(refused: list[str]) -> None:
    for reason in refused:
        click.echo(reason, err=True)
    if refused:
        sys.exit(1)


@main.command()
@click.argument(
    "source", metavar="RUN|FILE.keras|SAVEDMODEL", type=click.Path(path_type=Path, exists=True)
)
@click.option("--models", type=NameList(KERAS_MODELS), help="Of RUN; all by default.")
@click.option(
    "--fold",
    "fold_name",
    default="best",
    show_default=True,
    help="Of RUN: a number from 0, or the best on the images that steered its training.",
)
@click.option(
    "--facts",
    "facts_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with what is known of FILE's training, for its card: config.json, history.csv, "
    "metrics.json of its run, or some of them.",
)
@click.option("--note", "notes", multiple=True, help="A sentence for FILE's card; may be repeated.")
@description_options(without=("layout", "affect", "output_name"))
@export_dir_option
@click.option("--data", help="What judges the files: RUN's data set by default, none of FILE.")
@votes_option
@labels_map_option
@licence_option
@click.option("--int8", is_flag=True, help="Also int8, if as good and twice as fast, for CPUs.")
@click.option("--fp16", is_flag=True, help="Also float16 weights, for GPUs.")
@click.option("--reduce-range", is_flag=True, help="int8 weights of 7 bits, for CPUs without VNNI.")
@click.option("--keras", is_flag=True, help="Keep the Keras file too.")
@click.option(
    "--earlier",
    "earlier_paths",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    metavar="RUN|FILE.keras|SAVEDMODEL",
    help="What this model went on from, for the card: a run, or a model exported with its card; "
    "once for each, oldest first.",
)
@click.option(
    "--average", is_flag=True, help="Export the mean of the model's and --earlier's weights."
)
def export(
    source: Path,
    models: tuple[str, ...] | None,
    fold_name: str,
    facts_folder: Path | None,
    notes: tuple[str, ...],
    export_dir: Path | None,
    data: str | None,
    votes: str | None,
    labels_map: tuple[str, ...] | None,
    licence: str,
    earlier_paths: tuple[Path, ...],
    description: Description,
    **values: Any,
) -> None:
    """Export models to ONNX, judge the files, and write their cards.

    RUN is a run folder, whose folds are exported. FILE is any Keras classifier of pictures, or the
    folder of a TensorFlow SavedModel:
    --labels names its answers, and the other flags what its shapes do not tell. The ONNX file takes
    levels 0-255 and answers with probabilities; it is written only if it answers as Keras does.
    """
    from fer_train.run.folder import open_run

    earlier = [open_run(path) if path.is_dir() else path for path in earlier_paths]
    of_file = {"--facts": facts_folder, "--note": notes, "--labels-map": labels_map} | {
        f"--{name.replace('_', '-')}": value for name, value in description.items()
    }
    of_run = {"--models": models, "--fold": fold_name != "best"}
    is_run = source.is_dir() and not (source / "saved_model.pb").is_file()
    if not is_run and source.is_dir() and values["keras"]:
        raise click.UsageError("--keras is for a RUN and FILE.keras, received a SavedModel")
    for flag, value in (of_file if is_run else of_run).items():
        if value not in (None, (), False):
            kind = "FILE.keras" if is_run else "RUN"
            raise click.UsageError(f"{flag} is for {kind}, received {source}")
    if not is_run:
        from fer_train.export.publish import Forms
        from fer_train.export.sources import Pictures, file_pictures, file_source

        if values["int8"] and not data:
            raise click.UsageError("--int8 needs --data: images to find scales on and to judge by")
        if votes and not data:
            raise click.UsageError("--votes needs --data: the images that people voted on")
        if labels_map and not data:
            raise click.UsageError("--labels-map needs --data: the images whose labels it names")
        model = file_source(
            source,
            description,
            facts_folder=facts_folder,
            earlier=earlier,
            notes=notes,
            licence=licence,
        )
        pictures = Pictures()
        if data:
            pictures = file_pictures(data, model.spec.labels, votes, labels_map or ())
        _echo_refused(_publish_source(model, export_dir, pictures, Forms(**values)))
        return
    run = open_run(source)
    known = tuple(name for name in run.recipes if name in KERAS_MODELS)
    if unknown := set(models or ()) - set(known):
        raise click.BadParameter(
            f"{source} has {', '.join(known)}, received {', '.join(sorted(unknown))}",
            param_hint="--models",
        )
    if not known:
        raise RunError(f"Expected a model with an ONNX form in {source}, received none")
    fold = None
    if fold_name != "best":
        if not fold_name.isdigit() or int(fold_name) >= len(run.folds):
            raise click.BadParameter(
                f"expected best or 0 to {len(run.folds) - 1}, received {fold_name}",
                param_hint="--fold",
            )
        fold = int(fold_name)
    options = {"data": data, "votes": votes, "licence": licence, "earlier": earlier, **values}
    _publish(run, models or known, export_dir, fold, **options)


@main.command()
@click.argument(
    "source", metavar="FILE.onnx", type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--data", required=True, help="Images to find scales on and to judge by.")
@votes_option
@labels_map_option
@click.option(
    "--held-out",
    type=click.Path(path_type=Path, exists=True),
    help="Pictures with boxes that a face detector did not train on: they judge its int8 form.",
)
@description_options()
@click.option(
    "--export-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the int8 file goes. [default: beside FILE]",
)
@click.option("--reduce-range", is_flag=True, help="int8 weights of 7 bits, for CPUs without VNNI.")
def quantize(
    source: Path,
    data: str,
    votes: str | None,
    labels_map: tuple[str, ...] | None,
    held_out: Path | None,
    export_dir: Path | None,
    reduce_range: bool,
    description: Description,
) -> None:
    """Write the int8 form of any ONNX classifier, if it is as good and twice as fast.

    FILE describes itself, as exported ones do, or by FILE.toml beside it, or by flags. What lies
    beside it of facts and logs goes along with the int8 file. A face detector's is judged by
    pictures with boxes, --held-out.
    """
    from fer_edge.contract import DetectorSpec, read_spec
    from fer_edge.inference.onnx_file import read_model

    if isinstance(read_spec(read_model(source)[1].metadata, source.name), DetectorSpec):
        if held_out is None:
            raise click.UsageError(f"{source.name} finds faces: give --held-out PICTURES too")
        from fer_train.detection.pictures import read_pictures
        from fer_train.detection.quantize import publish_int8

        pictures = read_pictures([Path(data)]), read_pictures([held_out])
        made = publish_int8(source, export_dir or source.parent, *pictures)
        click.echo(
            f"{source.stem}.int8.onnx: {made.recall:.1%} of the faces found, fp32 "
            f"{made.parent_recall:.1%}, at {made.false_boxes} false boxes in pictures without a "
            f"face; {made.speedup:.1f} times as fast"
        )
        return
    if held_out:
        raise click.UsageError(f"{source.name} finds no faces: leave --held-out away")
    from fer_train.export.judging import open_file
    from fer_train.export.publish import quantize_file
    from fer_train.export.sources import file_pictures

    labels = open_file(source, **description).spec.labels
    refused = quantize_file(
        source,
        export_dir or source.parent,
        file_pictures(data, labels, votes, labels_map or ()),
        description=description,
        reduce_range=reduce_range,
        report=click.echo,
    )
    _echo_refused(refused)


@main.command()
@click.option(
    "--export-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=EXPORTED,
    show_default=True,
    help="Where the ONNX files are.",
)
def cards(export_dir: Path) -> None:
    """Write MODELS.md, from the facts beside the models of a folder, and their SHA256SUMS."""
    from fer_train.export.publish import describe_folder

    click.echo(describe_folder(export_dir))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@run_option
def doctor(as_json: bool, run_folder: Path) -> None:
    """Check what a training needs: back end, devices, precision, versions, free memory and disk."""
    from fer_train.doctor import examine

    print_findings(examine(run_folder), as_json=as_json)


def _echo_paths(paths: list[Path]) -> None:
    for path in paths:
        click.echo(path)


def _publish(
    run: "Run",
    models: tuple[str, ...],
    export_dir: Path | None,
    fold: int | None = None,
    *,
    licence: str = "",
    data: str | None = None,
    votes: str | None = None,
    earlier: "Sequence[Run | Path]" = (),
    **forms: bool,
) -> None:
    """Export a fold of each model, the best one where none is named."""
    from fer_train.export.publish import Forms
    from fer_train.export.sources import best_fold, fold_pictures, fold_source

    refused = []
    for model in models:
        if model not in KERAS_MODELS:
            click.echo(f"{model} has no ONNX form and is not exported", err=True)
            continue
        chosen = best_fold(run, model) if fold is None else run.fold(model, fold)
        source = fold_source(chosen, earlier, licence)
        pictures = fold_pictures(chosen, data, votes)
        refused += _publish_source(source, export_dir, pictures, Forms(**forms))
    _echo_refused(refused)


def _publish_source(
    source: "Source", export_dir: Path | None, pictures: "Pictures", forms: "Forms"
) -> list[str]:
    from fer_train.export.publish import free_folder, publish

    folder = export_dir or free_folder(source, EXPORTED)
    if folder not in (export_dir, EXPORTED):
        click.echo(
            f"{EXPORTED} has a {source.name} of another training, which stays; exporting to "
            f"{folder}",
            err=True,
        )
    return publish(source, folder, pictures, forms, report=click.echo)


def _test_rows(score: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each test set of a fold, and the same without copies, with its scores."""
    for name, own in score.get("tests", {}).items():
        yield name, own
        if "without_copies" in own:
            title = f"{name} without the {own['copies']:,} that have a copy outside"
            yield title, own["without_copies"]


def _print_scores(runs: "Sequence[Run]", models: Sequence[str]) -> None:
    """Print the scores of each fold, what they are worth, and the spread of several seeds."""
    from fer_train.report.compare import model_names, seed_blocks
    from fer_train.report.document import to_text
    from fer_train.run.evaluation import evaluate_model

    evaluations = [evaluate_model(run, model) for model in models for run in runs]
    titles = model_names(evaluations)
    for evaluation in evaluations:
        names = ["accuracy", "binary_accuracy", "balanced_accuracy", "log_loss", "f1_macro"]
        scores = [fold.score for fold in evaluation.folds]
        # Where votes are known.
        names += ["agreement"] if all("agreement" in score for score in scores) else []
        title = titles[id(evaluation)]
        width = max(12, len(title) + 1)
        click.echo(f"{title:{width}}" + "".join(f"{name:>20}" for name in (*names, "training_s")))
        rows: dict[str, list[str]] = {}
        for index, score in enumerate(scores):
            shown = [f"{score[name]:.4f}" for name in names]
            rows[f"fold {index}"] = [*shown, f"{score['training_s']:.0f}"]
            for test, own in _test_rows(score):
                cells = [f"{own[name]:.4f}" if name in own else "-" for name in names]
                rows[f"  fold {index}, {test}, {own['images']:,} images"] = cells
        if len(scores) > 1:
            spreads = [evaluation.spread(name) for name in names]
            rows["mean +- sd"] = [f"{mean:.4f} +- {sd:.4f}" for mean, sd in spreads]
        intervals = [evaluation.intervals.get(name) for name in names]
        rows["95 %"] = [f"{each.low:.4f} to {each.high:.4f}" if each else "" for each in intervals]
        for baseline in evaluation.baselines:
            rows[baseline.name] = [f"{baseline.merged[name]:.4f}" for name in names]
        for row, cells in rows.items():
            if len(row) >= width:
                click.echo(row)
                row = ""
            click.echo(f"{row:{width}}" + "".join(f"{cell:>20}" for cell in cells))
    if blocks := seed_blocks(evaluations, titles):
        click.echo(to_text(blocks), nl=False)


if __name__ == "__main__":
    main()
