"""What is known of an exported file and of how it was trained, kept beside it as JSON."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fer_edge.errors import DataError, RunError
from fer_train.run.folder import CONFIG, DONE, HISTORY, RunFold, read_json, read_teacher, write_json
from fer_train.run.recipes import (
    PROTOCOL_DEFAULTS,
    Protocol,
    Recipe,
    recipe_for,
    saved_protocol,
)
from fer_train.run.reproduce import training_command

_OF_STAGES = ("command", "settings", "notes", "hours", "device", "epochs", "averaged")
_OF_SCORES = ("epochs", "kept_epoch", "training_images", "parameters", "device", "dtype_policy")


def training_facts(fold: RunFold) -> dict[str, Any]:
    """Return how a fold was trained, plain values for JSON.

    Raises:
        RunError: The fold is not done.
    """
    fold.check_done()
    run, recipe = fold.run, fold.recipe
    taught: dict[str, Any] = {"teacher": read_teacher(run)} if recipe.teacher_weight else {}
    teachers = taught.get("teacher", {}).get("files", ())
    return taught | {
        "model": fold.model,
        "fold": fold.index,
        "folds": len(run.folds),
        "seed": run.protocol.seed,
        "command": training_command(run.protocol, fold.model, recipe, teachers),
        **_score_facts(fold.score),
        "training_images": int(fold.split.train.size),
        "recipe": recipe.plain(),
    }


def folder_facts(folder: Path, model: str) -> dict[str, Any]:
    """Return how a model was trained, by a folder with what a run keeps of it.

    Args:
        folder: Has ``config.json``, ``metrics.json``, ``history.csv``, or some of them.
        model: Name of the model, where the folder tells of several.

    Returns:
        As `training_facts`, as far as the folder tells, and what a `ModelSpec` needs: `dataset`,
        `dataset_digest` and `labels`.

    Raises:
        RunError: There is none of these files, or one cannot be read.
    """
    known = [folder / name for name in (CONFIG, DONE, HISTORY)]
    if not any(path.is_file() for path in known):
        names = ", ".join(path.name for path in known)
        raise RunError(f"Expected {names}, or some of them, in {folder}, found none")
    facts: dict[str, Any] = {"model": model}
    try:
        if (folder / CONFIG).is_file():
            facts |= _config_facts(read_json(folder / CONFIG), model, folder)
        if (folder / DONE).is_file():
            facts |= _score_facts(read_json(folder / DONE))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"Expected what fer-train writes in {folder}, received something else ({error!r})"
        ) from error
    return facts


def _config_facts(config: Mapping[str, Any], model: str, folder: Path) -> dict[str, Any]:
    recipes = config["models"]
    if model not in recipes:
        if len(recipes) != 1:
            raise RunError(
                f"Expected one model, or {model}, in {folder / CONFIG}, received "
                f"{', '.join(recipes)}; name the Keras file like the model"
            )
        (model,) = recipes
    protocol, recipe = config["protocol"], recipes[model]
    return {
        "model": model,
        "folds": protocol["folds"],
        "seed": protocol["seed"],
        "recipe": recipe,
        "dataset": Path(protocol["data"]).name,
        "dataset_digest": config["dataset_digest"],
        "labels": saved_protocol({"data": "", **_named(protocol)}).labels,
        **_told_command(protocol, model, recipe),
    }


def _named(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that name the classes, which every version's have."""
    return {key: protocol[key] for key in ("classes", "labels_map", "drop") if key in protocol}


def _told_command(protocol: dict[str, Any], model: str, recipe: dict[str, Any]) -> dict[str, str]:
    """Return the command that trains it again or, where settings alone do not tell it, these."""
    if not recipe.get("teacher_weight"):
        try:
            known = saved_protocol(protocol), Recipe(**recipe)
        except TypeError:  # settings of another version
            pass
        else:
            return {"command": training_command(known[0], model, known[1])}
    return {"settings": ", ".join(_changed(protocol, model, recipe))}


def _changed(protocol: Mapping[str, Any], model: str, recipe: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings that are not the recipe's own, as far as this version knows these."""
    moving = {key: recipe[key] for key in ("weights", "epochs") if key in recipe}
    try:
        own = recipe_for(recipe["name"], model, moving)
        usual = Protocol(data="", **PROTOCOL_DEFAULTS[own.name])
    except (DataError, KeyError):
        defaults: dict[str, Any] = {}
    else:
        defaults = {**dataclasses.asdict(usual), **dataclasses.asdict(own)} | dict.fromkeys(moving)
    # The data set has a row of its own, and the recipe too; labels stand in the metadata.
    told = ("data", "classes", "labels_map", "drop", "limit", "name")
    for key, value in {**protocol, **recipe}.items():
        if key not in told and value != defaults.get(key):
            yield f"{key} {value}"


def _score_facts(score: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: score[key] for key in _OF_SCORES if key in score}
    return facts | {"hours": round(score["training_s"] / 3600, 2)}


def stage_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the card of a model keeps of a training that it went on from."""
    kept = {key: facts[key] for key in _OF_STAGES if key in facts}
    return kept | {"accuracy": facts["single"]["accuracy"]}


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write ``FILE.json`` beside ``FILE.onnx``."""
    write_json(path.with_suffix(".json"), facts)


def read_facts(path: Path) -> dict[str, Any]:
    """Read ``FILE.json`` beside ``FILE.onnx``.

    Raises:
        RunError: It is missing or damaged.
    """
    return dict(read_json(path.with_suffix(".json")))


def log_files(path: Path, stages: int) -> list[Path]:
    """Return where the logs of an exported model lie, those of its earlier stages first.

    Args:
        path: Any form of it, such as ``FILE.int8.onnx``.
        stages: How many stages it went through before its own training.
    """
    stem = path.name.partition(".")[0]
    names = [f"{stem}.stage-{number}.{HISTORY}" for number in range(1, stages + 1)]
    return [path.with_name(name) for name in (*names, f"{stem}.{HISTORY}")]
