"""``fer-train detector``: a face detector of one's own."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from fer_edge._base.command import Command
from fer_edge._base.sections import section
from fer_train.commands.options import (
    DATA,
    EXPORTING,
    RUNNING,
    echo_paths,
    licence_option,
    run_option,
    setting_options,
)
from fer_train.commands.planning import as_usage
from fer_train.detection.settings import (
    DetectorSettings,
    LossWeights,
    TileSettings,
    read_settings,
    recipe_of,
)


@click.command(cls=Command)
@section(
    DATA,
    click.option(
        "--data",
        multiple=True,
        required=True,
        type=click.Path(path_type=Path, exists=True),
        metavar="FOLDER|ZIP",
        help="Pictures with their boxes: a boxes.csv, WIDER FACE's text file, or YOLO's text "
        "files; the content tells which. May be repeated.",
    ),
    click.option(
        "--held-out",
        type=click.Path(path_type=Path, exists=True),
        metavar="FOLDER|ZIP",
        help="Pictures with boxes to evaluate on. [default: a share of --data, by --inner]",
    ),
    click.option(
        "--teacher",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="YUNET.onnx",
        help="Model that labels the pictures without boxes; its scores are soft targets. What it "
        "finds beside people's boxes is ignored.",
    ),
    click.option(
        "--crops",
        metavar="DATA",
        help="FER-2013, as for fer-train all: its Training images serve as faces seen from "
        "near, above all those that --weights and --teacher find hard.",
    ),
    click.option(
        "--limit", type=click.IntRange(1), help="Use at most this many pictures. [default: all]"
    ),
)
@section(
    "Network",
    click.option(
        "--weights",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help="Initial weights: .keras, or .npz by name. [default: random]",
    ),
)
@setting_options(DetectorSettings)
@setting_options(TileSettings, heading="Tiles")
@setting_options(LossWeights, heading="Loss")
@section(
    RUNNING,
    click.option(
        "--config",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="TOML file of settings, such as configs/face.toml; flags override it.",
    ),
    run_option,
)
@section(
    EXPORTING,
    click.option(
        "--export-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where face.onnx goes too; one that is there is replaced. [default: RUN/exported]",
    ),
    licence_option,
)
def detector(
    data: tuple[Path, ...],
    held_out: Path | None,
    teacher: Path | None,
    crops: str | None,
    limit: int | None,
    weights: Path | None,
    config: Path | None,
    run_folder: Path,
    export_dir: Path | None,
    licence: str,
    **flags: Any,
) -> None:
    """Train a face detector, evaluate it and export it to ONNX."""
    with as_usage():
        given = {name: value for name, value in flags.items() if value is not None}
        recipe = recipe_of((read_settings(config) if config else {}) | given)
    from fer_train.detection.run import Sources, export_run, train_detector
    from fer_train.report.detector import build_detector_report
    from fer_train.report.document import save

    sources = Sources(data, limit, held_out, weights, teacher, crops)
    metrics = train_detector(run_folder, recipe, sources, partial(click.echo, err=True))
    for row in metrics.get("at", ()):
        if row["threshold"] == metrics["threshold"]:
            click.echo(
                f"threshold {row['threshold']:.2f}: {row['recall']:.1%} of {metrics['faces']} "
                f"faces found, {row['false_empty']} false boxes in {metrics['empty']} pictures "
                f"without a face, {row['false_elsewhere']} elsewhere"
            )
    echo_paths(save(build_detector_report(run_folder), run_folder / "report", "report"))
    click.echo(export_run(run_folder, export_dir or run_folder / "exported", licence))
