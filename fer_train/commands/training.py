"""``fer-train plan``, ``fold``, ``all`` and ``settings``: cross-validation."""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge._base.command import Command
from fer_edge._base.sections import section
from fer_edge.errors import RunError
from fer_train.commands.export import publish_folds
from fer_train.commands.options import (
    DATA,
    EXPORTING,
    RUNNING,
    export_dir_option,
    licence_option,
    log_option,
    model_file_option,
    plan_options,
    run_option,
    store_option,
)
from fer_train.commands.parameters import NameList, SeedList
from fer_train.commands.planning import as_usage, check_logs, choose_models, set_up_run
from fer_train.commands.scores import print_scores
from fer_train.run.model_file import OwnModel
from fer_train.run.recipes import (
    MODEL_NAMES,
    PROTOCOL_DEFAULTS,
    THESIS_MODELS,
    Protocol,
    is_network,
    recipe_for,
    to_toml,
)

if TYPE_CHECKING:
    from fer_train.run.folder import Run, RunFold


@click.command(cls=Command)
@click.option("--model", required=True, help="Model of RUN to train.")
@click.option(
    "--fold", "index", type=click.IntRange(0), required=True, help="Number of the fold, from 0."
)
@click.option("--data", help="Path of the run's data set on this machine.")
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
    """Train one fold of a planned run.

    A fold that has begun goes on from its last epoch.
    """
    from fer_train.run.folder import open_run
    from fer_train.run.plan import load_run_images
    from fer_train.run.store import Store
    from fer_train.train.schedule import run_for_parent, run_here

    if store:
        Store(store).fetch_plan(run_folder)
    check_logs(logs)
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


@click.command(cls=Command)
@plan_options
def plan(
    data: str,
    models: tuple[str, ...] | None,
    recipe: str,
    config: Path | None,
    run_folder: Path,
    store: str | None,
    **flags: Any,
) -> None:
    """Set up a run folder, whose folds `fer-train fold` trains."""
    models = choose_models(models, flags["model_file"])
    from fer_train.run.folder import locked_run

    with locked_run(run_folder):
        run, _ = set_up_run(data, models, recipe, config, run_folder, store, flags)
    click.echo(f"{run.folder}: {len(run.folds)} folds of {', '.join(run.recipes)}")


@click.command(cls=Command)
@click.option(
    "--recipe", type=click.Choice(sorted(PROTOCOL_DEFAULTS)), default="modern", show_default=True
)
@click.option(
    "--model",
    "models",
    type=NameList(),
    help=f"Models, comma-separated: {', '.join(MODEL_NAMES)}, or that of --model-file. [default: "
    f"{','.join(THESIS_MODELS)}, or that of --model-file]",
)
@model_file_option
@click.option("--weights", default="", help="As for `fer-train all`; changes other defaults.")
def settings(
    recipe: str, models: tuple[str, ...] | None, model_file: OwnModel | None, weights: str
) -> None:
    """Print the settings of a recipe as TOML, for --config."""
    models = choose_models(models, model_file)
    own = {model_file.name: model_file.settings} if model_file else {}
    given = {"weights": weights} if weights else {}
    with as_usage():
        recipes = {model: recipe_for(recipe, model, given | own.get(model, {})) for model in models}
    protocol = Protocol(data="", **PROTOCOL_DEFAULTS[recipe])
    click.echo(to_toml(protocol, recipes), nl=False)


def _resource(context: Any, parameter: Any, value: float) -> float:
    if value < 0 or (value > 1 and not value.is_integer()):
        raise click.BadParameter(f"expected a part of one, or a whole number, received {value:g}")
    return value


@click.command("all", cls=Command)
@plan_options
@section(
    DATA,
    click.option(
        "--seeds",
        type=SeedList(),
        help="Train from each of these seeds on the same folds, such as 0,1,2, in RUN/seed-0 and "
        "so on; the first one's models are exported.",
    ),
)
@section(
    RUNNING,
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
        help="Train nothing and write nothing; time a few steps of each model and print how long "
        "the remaining folds would take, one after the other.",
    ),
)
@section(
    EXPORTING,
    export_dir_option,
    licence_option,
    click.option("--int8", is_flag=True, help="As for `fer-train export`."),
    click.option("--no-export", is_flag=True, help="Do not export the best folds."),
)
def train_all(
    data: str,
    models: tuple[str, ...] | None,
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
    models = choose_models(models, flags["model_file"])
    if estimate_only:
        _estimate(data, models, recipe, config, run_folder, flags)
        return
    from fer_train.run.folder import CONFIG, SEED_FOLDER, FoldId, locked_run
    from fer_train.run.plan import pending
    from fer_train.train import schedule

    if not emit:
        check_logs(logs)
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
            run, dataset = set_up_run(
                data, models, recipe, config, place, there, own, weights=not emit
            )
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
    print_scores(runs, models)
    if not no_export:
        publish_folds(runs[0], models, export_dir, licence=licence, int8=int8)


def _write_results(folder: Path, runs: "Sequence[Run]") -> None:
    """Write the table of all folds that are done of a run, or of its seeds."""
    from fer_train.run.evaluation import evaluate_run, run_names
    from fer_train.run.folder import RESULTS, write_text
    from fer_train.run.record import results_csv

    evaluations = [each for run in runs for each in evaluate_run(run, partial=True)]
    write_text(folder / RESULTS, results_csv(evaluations, run_names(evaluations)))


def _emit_jobs(kind: str, run: "Run", folds: "Sequence[RunFold]") -> None:
    from fer_train.run.store import STORE_VARIABLE, holds_keys
    from fer_train.train import job_files

    write = job_files.slurm_script if kind == "slurm" else job_files.kubernetes_job
    click.echo(write(run, folds), nl=False)
    if run.store and holds_keys(run.store):
        how = (
            f"the environment of sbatch, as {STORE_VARIABLE}"
            if kind == "slurm"
            else f"a secret: kubectl create secret generic {job_files.SECRET} "
            "--from-literal=address=ADDRESS"
        )
        click.echo(
            f"The address in --store holds keys and is not in the job file; put it into {how}",
            err=True,
        )


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
        run, dataset = set_up_run(data, models, recipe, config, Path(folder) / "run", None, flags)
        folds = pending(run, models)
        if (run_folder / CONFIG).is_file():
            there = open_run(run_folder)
            there.check_same(run)
            folds = [fold for fold in folds if not there.fold(*fold.id).is_done]
        total_s = 0.0
        for model in models:
            own = [fold for fold in folds if fold.model == model]
            if not is_network(model) or not own:
                reason = "is not timed" if own else "has no fold left"
                click.echo(f"{model:<12}{reason}")
                continue
            estimate = estimate_model(own, dataset)
            total_s += estimate.total_s
            click.echo(f"{model:<12}{estimate}")
    click.echo(f"{'all':<12}{format_duration(total_s)} in one process, one fold after the other")
