"""The command that trains a model again."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fer_train.run.recipes import PROTOCOL_DEFAULTS, Protocol, Recipe, recipe_for


def training_command(
    protocol: Protocol, model: str, recipe: Recipe, teachers: Sequence[str] = ()
) -> str:
    """Return the command that trains this again: only what differs from the defaults.

    Args:
        protocol: The run's.
        model: Name of the model.
        recipe: Its settings.
        teachers: Files that taught it; none where a run did, or nobody.
    """
    # What the model is, of which there are no defaults.
    own_model = {"model_file": recipe.model_file, "code": recipe.code} if recipe.code else {}
    defaults_of_run = Protocol(data=protocol.data, **PROTOCOL_DEFAULTS[recipe.name])
    if recipe.teacher_weight:
        parts = ["fer-train distill", *map(shlex.quote, teachers or ["TEACHER_RUN"])]
        parts += ["--student", model]
        if teachers:
            parts += ["--data", shlex.quote(Path(protocol.data).name)]
        # The rest of it is the teacher's, or always so.
        own = dataclasses.replace(
            defaults_of_run,
            grouping=protocol.grouping,
            inner=protocol.inner,
            seed=protocol.seed,
            votes=protocol.votes,
            groups=protocol.groups,
            steer=protocol.steer,
        )
        if teachers:
            # A run's students have its classes.
            own = dataclasses.replace(own, classes=protocol.classes, labels_map=protocol.labels_map)
        parts += _flags(own, defaults_of_run)
    else:
        parts = ["fer-train all --data", shlex.quote(Path(protocol.data).name), "--models", model]
        parts += _flags(protocol, defaults_of_run)
        if recipe.name != "modern":
            parts += ["--recipe", recipe.name]
    # The length of a training, and its weights, move the defaults of other settings.
    moving = {"epochs": recipe.epochs, "weights": recipe.weights}
    defaults = recipe_for(recipe.name, model, own_model)
    given = {name: value for name, value in moving.items() if getattr(defaults, name) != value}
    parts += [f"--{name} {value}" for name, value in given.items()]
    if own_model:
        parts += ["--model-file", shlex.quote(recipe.model_file)]
    parts += _flags(recipe, recipe_for(recipe.name, model, given | own_model))
    return " ".join(parts)


def _flags(settings: Any, defaults: Any) -> list[str]:
    flags = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value != getattr(defaults, field.name):
            text = shlex.quote(",".join(value)) if isinstance(value, tuple) else str(value)
            if field.name == "votes" or text.endswith((".csv", ".csv.gz")):
                # Where it lay is the affair of the machine that trained.
                text = Path(text).name
            if field.name in ("votes", "groups"):
                text = shlex.quote(text)
            flags.append(f"--{field.name.replace('_', '-')} {text}")
    return flags
