"""``fer-train report``, ``compare`` and ``predict``: what models are worth."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fer_edge._base.command import Command
from fer_edge.inference.flags import detector_options
from fer_edge.inference.locate import DetectorName
from fer_train.commands.options import (
    echo_paths,
    labels_map_option,
    layout_option,
    output_option,
)

if TYPE_CHECKING:
    from fer_train.run.evaluation import ModelEvaluation

runs_argument = click.argument(
    "run_folders",
    nargs=-1,
    required=True,
    metavar="RUN...",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
)


partial_option = click.option(
    "--partial", "only_done", is_flag=True, help="Use the folds that are done of an unfinished run."
)


@click.command(cls=Command)
@runs_argument
@partial_option
@click.option(
    "--images",
    is_flag=True,
    help="Show images of the data set too: the surest errors, the most disputed, where the "
    "network looks (Grad-CAM), and how it sorts them (t-SNE).",
)
@click.option("--data", help="Path of the data set on this machine, for --images.")
@output_option("report")
def report(
    run_folders: tuple[Path, ...], only_done: bool, images: bool, data: str | None, output: Path
) -> None:
    """Report on runs: scores, tests, curves, the thesis's figures."""
    from fer_train.report.document import save
    from fer_train.run.folder import run_task

    if any(run_task(folder) for folder in run_folders):
        from fer_train.report.detector import build_detector_report

        if len(run_folders) > 1:
            raise click.UsageError("expected a detector's run alone")
        echo_paths(save(build_detector_report(run_folders[0]), output, "report"))
        return
    from fer_train.report.runs import build_report
    from fer_train.run.plan import load_run_images

    if data and not images:
        raise click.UsageError("--data is for --images")
    load = partial(load_run_images, data=data) if images else None
    document = build_report(_evaluations(run_folders, only_done), load)
    echo_paths(save(document, output, "report"))


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


@click.command(cls=Command)
@runs_argument
@partial_option
def compare(run_folders: tuple[Path, ...], only_done: bool) -> None:
    """Compare the models of runs: scores, intervals, tests, seeds."""
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


@click.command(cls=Command)
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
@click.option("--model", help="Model of a RUN with several.")
@click.option(
    "--fold", type=click.IntRange(0), help="Fold of RUN to use alone. [default: the average of all]"
)
@click.option(
    "--pages",
    type=click.IntRange(0),
    default=25,
    show_default=True,
    help="Show at most this many pages of twelve pictures beside their bars.",
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
    """Predict the emotions of pictures, with scores where known.

    The model is an ONNX file, or the mean of the folds of a RUN.
    """
    from fer_edge.inference.detectors import open_detector
    from fer_train.data.layouts import load_layout
    from fer_train.report.document import save
    from fer_train.report.predict import describe_predictions, open_model, predict_pictures

    chosen = open_model(source, model, fold)
    pictures = load_layout(data, layout, chosen.spec.labels, labels_map or ())
    finder = open_detector(detector, detector_model)
    predictions = predict_pictures(chosen, pictures.pictures, finder)
    title = f"{data.resolve().name} ({layout}) classified by {chosen.name}"
    document = describe_predictions(predictions, chosen.spec.labels, pictures, data, title, pages)
    echo_paths(save(document, output, "predictions"))
    if faceless := sum(prediction.status == "no_face" for prediction in predictions):
        click.echo(
            f"In {faceless} of {len(predictions)} pictures no face was found; where each picture "
            "is a face already, give --detector none",
            err=True,
        )
    failed = [prediction for prediction in predictions if prediction.error is not None]
    for prediction in failed:
        click.echo(f"{prediction.picture.path}: {prediction.error}", err=True)
    if failed:
        sys.exit(1)
