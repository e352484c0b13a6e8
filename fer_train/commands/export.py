"""``fer-train export``, ``quantize`` and ``cards``: ONNX files and what is known of them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge._base.command import Command
from fer_edge.contract import Description
from fer_edge.errors import RunError
from fer_edge.inference.flags import description_options
from fer_train.commands.options import (
    EXPORTED,
    export_dir_option,
    labels_map_option,
    licence_option,
    votes_option,
)
from fer_train.commands.parameters import ModelFile, NameList
from fer_train.run.model_file import OwnModel
from fer_train.run.recipes import Recipe, is_network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_train.export.publish import Forms
    from fer_train.export.sources import Pictures, Source
    from fer_train.run.folder import Run


@click.command(cls=Command)
@click.argument(
    "source", metavar="RUN|FILE.keras|SAVEDMODEL", type=click.Path(path_type=Path, exists=True)
)
@click.option("--models", type=NameList(), help="Models of RUN to export. [default: all]")
@click.option(
    "--fold",
    "fold_name",
    default="best",
    show_default=True,
    help="Fold of RUN: a number from 0, or the best on the images that steered its training.",
)
@click.option(
    "--facts",
    "facts_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with records of FILE's training, for its card: config.json, history.csv or "
    "metrics.json of its run.",
)
@click.option("--note", "notes", multiple=True, help="Sentence for FILE's card; may be repeated.")
@click.option(
    "--model-file",
    type=ModelFile(),
    metavar="FILE.py:FUNCTION",
    help="Python file with FILE's custom layers. It is run: give only code that you trust.",
)
@description_options(without=("layout", "affect", "output_name"))
@export_dir_option
@click.option("--data", help="Data set to evaluate the files on. [default: RUN's; none for FILE]")
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
    help="What this model was trained further from, for the card: a run, or a model exported with "
    "its card; once for each, oldest first.",
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
    model_file: OwnModel | None,
    earlier_paths: tuple[Path, ...],
    description: Description,
    **values: Any,
) -> None:
    """Export models to ONNX, evaluate them and write their cards.

    RUN is a run folder, whose folds are exported. FILE is any Keras classifier of pictures, or the
    folder of a TensorFlow SavedModel: --labels names its outputs, and the other flags tell what its
    shapes do not. The ONNX file takes levels 0-255 and gives probabilities. It is written only if
    they are those of Keras.
    """
    from fer_train.run.folder import open_run

    earlier = [open_run(path) if path.is_dir() else path for path in earlier_paths]
    of_file: dict[str, Any] = {"--facts": facts_folder, "--note": notes}
    of_file |= {"--labels-map": labels_map, "--model-file": model_file} | {
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
            raise click.UsageError("--int8 needs --data: images for its scales and its evaluation")
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
            recipe=Recipe(**model_file.settings) if model_file else None,
        )
        pictures = Pictures()
        if data:
            pictures = file_pictures(data, model.spec, votes, labels_map or ())
        _echo_refused(_publish_source(model, export_dir, pictures, Forms(**values)))
        return
    run = open_run(source)
    known = tuple(name for name in run.recipes if is_network(name))
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
    publish_folds(run, models or known, export_dir, fold, **options)


@click.command(cls=Command)
@click.argument(
    "source", metavar="FILE.onnx", type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--data", required=True, help="Images for the scales and the evaluation.")
@votes_option
@labels_map_option
@click.option(
    "--held-out",
    type=click.Path(path_type=Path, exists=True),
    help="Pictures with boxes, for a face detector's int8 form to be evaluated on; not trained on.",
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
    """Write the int8 form of an ONNX model, where it pays.

    It pays where it is about as good as FILE and twice as fast. FILE describes itself, as exported
    files do, or FILE.toml beside it does, or flags do. Facts and logs that lie beside FILE are
    copied for the int8 file. A face detector is evaluated on pictures with boxes, --held-out.
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
    from fer_train.export.held_out import open_file
    from fer_train.export.publish import quantize_file
    from fer_train.export.sources import file_pictures

    spec = open_file(source, **description).spec
    refused = quantize_file(
        source,
        export_dir or source.parent,
        file_pictures(data, spec, votes, labels_map or ()),
        description=description,
        reduce_range=reduce_range,
        report=click.echo,
    )
    _echo_refused(refused)


@click.command(cls=Command)
@click.option(
    "--export-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=EXPORTED,
    show_default=True,
    help="Where the ONNX files are.",
)
def cards(export_dir: Path) -> None:
    """Write MODELS.md and SHA256SUMS for the models of a folder."""
    from fer_train.export.publish import describe_folder

    click.echo(describe_folder(export_dir))


def publish_folds(
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
        if not is_network(model):
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


def _echo_refused(refused: list[str]) -> None:
    for reason in refused:
        click.echo(reason, err=True)
    if refused:
        sys.exit(1)
