"""``fer-train tune``: the search for settings."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from fer_edge._base.command import Command
from fer_edge._base.sections import section
from fer_train.commands.options import RUNNING, data_options, run_option
from fer_train.commands.planning import (
    as_usage,
    check_models,
    choose_models,
    read_run_settings,
    tell_of_images,
    tell_of_votes,
)
from fer_train.run.recipes import KERAS_MODELS, is_network


@click.command(cls=Command)
@data_options
@section(
    "Search",
    click.option(
        "--search",
        "searched",
        multiple=True,
        metavar="SETTING=LOW:HIGH|A,B,C",
        help="Range or choices of a setting; may be repeated. [default: learning rate, weight "
        "decay, label smoothing, augmentation, erasing, mixup and batch size, around the "
        "recipe's own]",
    ),
    click.option(
        "--trials",
        type=click.IntRange(1),
        default=20,
        show_default=True,
        help="Trials in all, including those of earlier commands on the same RUN.",
    ),
    click.option(
        "--hours",
        type=click.FloatRange(0, min_open=True),
        help="Time limit of this command; an unfinished trial continues next time.",
    ),
)
@section(RUNNING, run_option)
def tune(
    data: str,
    models: tuple[str, ...] | None,
    recipe: str,
    config: Path | None,
    searched: tuple[str, ...],
    trials: int,
    hours: float | None,
    run_folder: Path,
    **flags: Any,
) -> None:
    """Search for the settings of a model with Optuna.

    RUN/best.toml takes the best ones, for --config. Trials train on the first fold and are
    evaluated on its inner images, which steer training; the held-out images of the fold are never
    used. What is given as a flag is the same in all trials. The same command on the same RUN goes
    on where it was.
    """
    models = choose_models(models, flags["model_file"])
    if len(models) != 1 or not is_network(models[0]):
        raise click.UsageError(
            f"expected one network to search for, of {', '.join(KERAS_MODELS)} or your own; give "
            "--models edge"
        )
    protocol, recipes = read_run_settings(data, models, recipe, config, flags)
    (own,) = recipes.values()
    from fer_train.run.plan import load_images
    from fer_train.train.tune import Search, default_ranges, parse_range

    with as_usage():
        ranges = [parse_range(text, models[0]) for text in searched] or [
            each for each in default_ranges(own) if flags[each.name] is None
        ]
        if repeated := {one.name for one in ranges if sum(one.name == o.name for o in ranges) > 1}:
            raise click.UsageError(f"--search names {', '.join(sorted(repeated))} twice")
        search = Search(run_folder, protocol, models[0], own, ranges)
    check_models(recipes, protocol)
    dataset = load_images(protocol)
    tell_of_images(dataset)
    tell_of_votes(dataset)
    search.run(dataset, trials, hours, partial(click.echo, err=True))
    if search.best_file.is_file():
        click.echo(search.best_file)
