"""What the commands that train do first: read settings, load images, set up the run folder."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge.errors import DataError
from fer_train.commands.options import TEACHING
from fer_train.run.model_file import OwnModel
from fer_train.run.recipes import (
    PROTOCOL_DEFAULTS,
    THESIS_MODELS,
    Protocol,
    Recipe,
    check_size,
    is_network,
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
    *,
    weights: bool = False,
) -> "tuple[Run, Dataset]":
    """Plan a run, or go on with it; ``weights`` looks for those before anything is written."""
    from fer_train.run.plan import load_images, plan_run
    from fer_train.run.store import Store

    protocol, recipes = read_run_settings(data, models, recipe, config, flags)
    there = Store(store) if store else None
    if there:
        there.fetch_plan(run_folder)
    dataset = load_images(protocol)
    tell_of_images(dataset)
    tell_of_votes(dataset)
    check_models(recipes, protocol, weights=weights)
    run = plan_run(run_folder, protocol, recipes, dataset)
    _tell_of_groups(run, dataset)
    if there:
        run = dataclasses.replace(run, store=store)
        there.send_plan(run)
        there.exchange_done(run)
    return run, dataset


def choose_models(models: tuple[str, ...] | None, own: OwnModel | None) -> tuple[str, ...]:
    """Return the models that are asked for, by name or by a file of one's own."""
    if models is None:
        return (own.name,) if own else THESIS_MODELS
    if own and own.name not in models:
        raise click.UsageError(
            f"--model-file {own.settings['model_file']} is the model {own.name}, received --models "
            f"{','.join(models)} without it; add it, or leave --models away"
        )
    return models


def read_run_settings(
    data: str, models: tuple[str, ...], recipe: str, config: Path | None, flags: dict[str, Any]
) -> tuple[Protocol, dict[str, Recipe]]:
    """Return what flags, the file of settings and the recipe say, in this order."""
    given = {name: value for name, value in flags.items() if value is not None}
    own_model = given.pop("model_file", None)
    own = {own_model.name: own_model.settings} if own_model else {}
    protocol_fields = {field.name for field in dataclasses.fields(Protocol)}
    with as_usage():
        common = read_overrides(config, "", own) if config else {}
    settings = PROTOCOL_DEFAULTS[recipe] | common | given
    with as_usage():
        protocol = Protocol(
            data=data, **{key: value for key, value in settings.items() if key in protocol_fields}
        )
        recipes = {}
        for model in models:
            overrides = read_overrides(config, model, own) if config else {}
            overrides |= given | own.get(model, {})
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
            check_size(model, protocol)
    return protocol, recipes


def check_votes_share(recipe: Recipe, protocol: Protocol) -> None:
    """Refuse a share of votes where there are none."""
    if recipe.votes_share != 1 and protocol.votes is None:
        raise click.UsageError("--votes-share is for --votes, which brings votes")


def tell_of_images(dataset: "Dataset") -> None:
    """Say what was left out and made of pictures, and which classes have no image."""
    if dataset.left_out:
        counts = ", ".join(f"{count:,} of {name}" for name, count in dataset.left_out.items())
        click.echo(f"left out, being of no class: {counts}", err=True)
    for what, count in dataset.remade.items():
        click.echo(f"{count:,} of {len(dataset):,} images are {what}", err=True)
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


def check_models(
    recipes: Mapping[str, Recipe], protocol: Protocol, *, weights: bool = True
) -> None:
    """Look at models of one's own before the first fold of any model, not in mid-run.

    Args:
        recipes: Of all models.
        protocol: Of their run.
        weights: Whether to look for weights to start from too.
    """
    needed = {
        model: recipe
        for model, recipe in recipes.items()
        if is_network(model) and (recipe.code or (weights and recipe.weights != "none"))
    }
    if needed:
        from fer_train.network.check import check_model

        for model, recipe in needed.items():
            check_model(model, recipe, len(protocol.labels), protocol.form)


def check_logs(kinds: Sequence[str]) -> None:
    """Look for the trackers' packages before the first fold."""
    if kinds:
        from fer_train.train.logs import check_log

        for kind in kinds:
            check_log(kind)
