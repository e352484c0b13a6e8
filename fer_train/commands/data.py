"""``fer-train explore`` and ``prepare``: data sets before training."""

import dataclasses
import sys
from pathlib import Path

import click

from fer_edge._base.command import Command
from fer_edge.inference.flags import detector_options
from fer_edge.inference.locate import DetectorName
from fer_train.commands.options import (
    classes_option,
    color_option,
    echo_paths,
    image_size_option,
    labels_map_option,
    layout_option,
    output_option,
    votes_option,
)
from fer_train.commands.parameters import SEED
from fer_train.commands.planning import as_usage, tell_of_images
from fer_train.data.emotions import language_advice, make_labelling
from fer_train.data.form import Form, ImageColor


@click.command(cls=Command)
@click.option("--data", required=True, help="As for `fer-train all`.")
@votes_option
@classes_option
@labels_map_option
@color_option
@image_size_option
@click.option(
    "--limit", type=click.IntRange(1), help="Use at most this many images. [default: all]"
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@output_option("explore")
def explore(
    data: str,
    votes: str | None,
    classes: tuple[str, ...] | None,
    labels_map: tuple[str, ...] | None,
    color: ImageColor | None,
    image_size: int | None,
    limit: int | None,
    seed: int,
    output: Path,
) -> None:
    """Show a data set before training: samples, counts, faults."""
    from fer_train.data.load import load_dataset
    from fer_train.report.document import save
    from fer_train.report.explore import explore_dataset

    with as_usage():
        labelling = make_labelling(classes or (), labels_map or ())
    form = Form(image_size, color)
    dataset = load_dataset(
        data, limit=limit, seed=seed, votes=votes, labelling=labelling, form=form
    )
    tell_of_images(dataset)
    document = explore_dataset(dataset, seed)
    echo_paths(save(document, output, "explore"))


@click.command(cls=Command)
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
@color_option
@image_size_option
@click.option(
    "--margin",
    type=click.FloatRange(0, 2),
    default=0.0,
    show_default=True,
    help="Margin added on each side of a face, as a share of its longer side.",
)
@click.option(
    "--fps",
    "frames_per_s",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="Frames taken from each second of a video.",
)
def prepare(
    sources: tuple[Path, ...],
    output: Path,
    layout: str,
    classes: tuple[str, ...] | None,
    labels_map: tuple[str, ...] | None,
    detector: DetectorName,
    detector_model: Path | None,
    color: ImageColor | None,
    image_size: int | None,
    margin: float,
    frames_per_s: float,
) -> None:
    """Cut faces out of pictures and videos, as a data set.

    The largest face of each picture, and of some frames of each video, is turned upright and cut as
    fer-edge does, grey and 48 x 48 if nothing else is said. OUTPUT/faces.csv lists the source of
    each face, and the pictures without one. --groups OUTPUT/faces.csv keeps the frames of a video
    together.
    """
    from fer_edge.inference.detectors import open_detector
    from fer_train.data.prepare import prepare_faces

    with as_usage():
        labelling = make_labelling(classes or (), labels_map or ())
    finder = open_detector(detector, detector_model)
    made = prepare_faces(
        sources,
        output,
        finder,
        layout=layout,
        labelling=labelling,
        labels_map=labels_map or (),
        spec=dataclasses.replace(Form(image_size, color).spec, margin=margin),
        frames_per_s=frames_per_s,
    )
    for reason, count in sorted(made.skipped.items()):
        click.echo(f"left out: {count:,} x {reason}", err=True)
    for error in made.errors:
        click.echo(error, err=True)
    counts = ", ".join(f"{count:,} of {label}" for label, count in sorted(made.faces.items()))
    click.echo(f"{made.faces.total():,} faces ({counts or 'none'})", err=True)
    if made.unlabelled:
        folders = [name for name, _ in made.unlabelled.most_common(3)]
        click.echo(
            f"{made.unlabelled.total():,} faces are of no class that is known, in folders such as "
            f"{', '.join(folders)}; --labels-map says what they mean{language_advice(folders[0])}",
            err=True,
        )
    if made.no_face:
        click.echo(
            f"{made.no_face:,} pictures and frames without a face that was found; where each is a "
            "face already, give --detector none",
            err=True,
        )
    click.echo(made.table)
    if made.errors or not made.faces:
        sys.exit(1)
