"""What the commands that train do first: read settings, load images, set up the run folder."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge.errors import DataError
from fer_train.commands.options import TEACHING
from fer_train.run.recipes import (
    KERAS_MODELS,
    PROTOCOL_DEFAULTS,
    Protocol,
    Recipe,
    read_overrides,
    recipe_for,
)

if TYPE_CHECKING:
    from fer_train.data.load import Dataset
    from fer_train.run.folder import Run


@contextmanager
def as_usage() -> Iterator[None]:
    """Turn what is wrong with a setting into wrong usage, which exits with 2."""
    try:
        yield
    except DataError as error:
        raise click.UsageError(error.message) from error


def set_up_run(
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

    protocol, recipes = read_run_settings(data, models, recipe, config, flags)
    there = Store(store) if store else None
    if there:
        there.fetch_plan(run_folder)
    dataset = load_images(protocol)
    tell_of_left_out(dataset)
    tell_of_votes(dataset)
    check(recipes, len(protocol.labels))
    run = plan_run(run_folder, protocol, recipes, dataset)
    _tell_of_groups(run, dataset)
    if there:
        run = dataclasses.replace(run, store=store)
        there.send_plan(run)
        there.exchange_done(run)
    return run, dataset


def read_run_settings(
    data: str, models: tuple[str, ...], recipe: str, config: Path | None, flags: dict[str, Any]
) -> tuple[Protocol, dict[str, Recipe]]:
    """Return what flags, the file of settings and the recipe say, in this order."""
    given = {name: value for name, value in flags.items() if value is not None}
    protocol_fields = {field.name for field in dataclasses.fields(Protocol)}
    with as_usage():
        common = read_overrides(config, "") if config else {}
    settings = PROTOCOL_DEFAULTS[recipe] | common | given
    with as_usage():
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
            for name in TEACHING:
                if getattr(recipes[model], name):
                    flag = f"--{name.replace('_', '-')}"
                    raise click.UsageError(f"{flag} is for fer-train distill, which has a teacher")
            check_votes_share(recipes[model], protocol)
    return protocol, recipes


def check_votes_share(recipe: Recipe, protocol: Protocol) -> None:
    """Refuse a share of votes where there are none."""
    if recipe.votes_share != 1 and protocol.votes is None:
        raise click.UsageError("--votes-share is for --votes, which brings votes")


def tell_of_left_out(dataset: "Dataset") -> None:
    """Say how many images are of no class, and which classes have no image."""
    if dataset.left_out:
        counts = ", ".join(f"{count:,} of {name}" for name, count in dataset.left_out.items())
        click.echo(f"left out, being of no class: {counts}", err=True)
    present = set(dataset.labels.tolist())
    if absent := [name for label, name in enumerate(dataset.label_names) if label not in present]:
        click.echo(
            f"warning: no image is of {', '.join(absent)}, so nothing teaches it; --classes names "
            "the classes that there are",
            err=True,
        )


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


def tell_of_votes(dataset: "Dataset") -> None:
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


def check_weights(recipes: Mapping[str, Recipe], classes: int) -> None:
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


def check_logs(kinds: Sequence[str]) -> None:
    """Look for the trackers' packages before the first fold."""
    if kinds:
        from fer_train.train.logs import check_log

        for kind in kinds:
            check_log(kind)
