"""``fer-train distill``: a student and its teachers."""

from pathlib import Path
from typing import Any

import click

from fer_edge._base.command import Command
from fer_train.commands.export import publish_folds
from fer_train.commands.options import (
    classes_option,
    color_option,
    config_option,
    groups_option,
    image_size_option,
    labels_map_option,
    licence_option,
    model_file_option,
    recipe_options,
    run_option,
    setting_options,
    votes_option,
)
from fer_train.commands.parameters import SEED, NameList
from fer_train.commands.planning import (
    as_usage,
    check_models,
    check_votes_share,
    tell_of_images,
    tell_of_votes,
)
from fer_train.commands.scores import print_scores
from fer_train.run.model_file import OwnModel
from fer_train.run.recipes import (
    KERAS_MODELS,
    PROTOCOL_DEFAULTS,
    Protocol,
    check_size,
    read_overrides,
    recipe_for,
)

_OF_IMAGES = ("classes", "labels_map", "color", "image_size")
"""Settings that a student has of a RUN that teaches it."""


@click.command(cls=Command)
@click.argument(
    "teacher_paths",
    metavar="RUN|FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True),
)
@click.option(
    "--student",
    help=f"Model to train: {', '.join(KERAS_MODELS)}. [default: edge, or that of --model-file]",
)
@model_file_option
@click.option("--teachers", type=NameList(), help="Models of RUN that teach. [default: all]")
@click.option("--export-dir", type=click.Path(path_type=Path, file_okay=False))
@licence_option
@click.option("--data", help="Path of RUN's data set on this machine; needed with FILE.")
@config_option
@click.option("--seed", type=SEED, help="Random seed. [default: 0]")
@run_option
@votes_option
@groups_option
@classes_option
@labels_map_option
@color_option
@image_size_option
@setting_options(
    Protocol,
    skip=(
        *("data", "limit", "pool", "classes", "labels_map", "drop", "folds", "seed"),
        *("split_seed", "votes", "groups", "color", "image_size"),
    ),
)
@recipe_options
def distill(
    teacher_paths: tuple[Path, ...],
    student: str | None,
    model_file: OwnModel | None,
    teachers: tuple[str, ...] | None,
    export_dir: Path | None,
    licence: str,
    data: str | None,
    config: Path | None,
    run_folder: Path,
    **flags: Any,
) -> None:
    """Train a student on what teachers predict.

    Of a RUN the teachers are its fold models: each image has the mean of the predictions for it and
    for its mirror image, from the model that did not train on it. The student trains on Training
    and is tested on PublicTest, so RUN should be a cross-validation with --pool training. A
    FILE.keras is a finished model: it predicts each image as augmentation has just changed it. With
    --views N teachers predict N changed versions of each image once, before training, and may be
    FILE.onnx.
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
    own = {model_file.name: model_file.settings} if model_file else {}
    if not student:
        student = model_file.name if model_file else "edge"
    with as_usage():
        given = (read_overrides(config, student, own) if config else {}) | given
    given |= own.get(student, {})
    if teacher and given.get("views"):
        raise click.UsageError("--views is for files as teachers; a run's folds predict only once")
    if given.pop("folds", 1) != 1 or {"limit", "pool", "drop", "split_seed"} & given.keys():
        raise click.UsageError(
            f"expected no limit, pool, drop and split_seed, and folds = 1, in {config}: a student "
            "has those of its teacher, and the data set's own split"
        )
    if teacher and set(_OF_IMAGES) & given.keys():
        raise click.UsageError(
            "--classes, --labels-map, --color and --image-size are for files as teachers; a "
            "student has RUN's classes and images"
        )
    usual: dict[str, Any] = {"seed": 0, "votes": None, "groups": None, "steer": "inner"}
    split = PROTOCOL_DEFAULTS["modern"] | usual
    if teacher:
        # What was left out of the teacher's training is no class of the student's either.
        images: dict[str, Any] = {
            name: getattr(teacher.protocol, name) for name in (*_OF_IMAGES, "drop")
        }
    else:
        images = {name: given.pop(name) for name in _OF_IMAGES if name in given}
    split = split | {name: given.pop(name) for name in split if name in given}
    with as_usage():
        protocol = Protocol(
            data=source,
            limit=teacher.protocol.limit if teacher else None,
            folds=1,
            **images,
            **split,
        )
        check_size(student, protocol)
        recipe = recipe_for("modern", student, {"teacher_weight": 0.7} | given)
    check_votes_share(recipe, protocol)
    with locked_run(run_folder):
        dataset = load_images(protocol)
        tell_of_images(dataset)
        tell_of_votes(dataset)
        check_models({student: recipe}, protocol)
        if teacher:
            models = teachers or tuple(teacher.recipes)
            teach = folds_as_teacher(teacher, models, protocol, dataset, data)
        else:
            teach = models_as_teacher(teacher_paths, protocol, recipe)
        # A teacher that is refused leaves no run behind.
        run = plan_run(
            run_folder, protocol, {student: recipe}, dataset, "folds" if teacher else "files"
        )
        facts = teach(run)
        if "accuracy" in facts:
            shown = f"teacher: top-1 {facts['accuracy']:.4f} on images that it did not train on"
            click.echo(shown, err=True)
        run_here(dataset, pending(run, [student]))
    print_scores([run], [student])
    if export_dir:
        publish_folds(run, (student,), export_dir, licence=licence, data=data)
