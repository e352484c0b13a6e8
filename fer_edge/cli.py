"""The command ``fer-edge``: parses, calls, prints. Heavy modules are imported inside commands."""

import sys
from collections.abc import Callable
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge import __version__
from fer_edge.providers import AUTO, PROVIDERS

if TYPE_CHECKING:
    from fer_edge.classifier import Classifier


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fer-edge")
def main() -> None:
    """Tell emotions from faces in pictures and video, with ONNX models."""


def classifier_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose model, detector and provider.

    The command receives ``open_classifier``, which makes the `Classifier` they describe, in their
    place.
    """
    options = [
        click.option("--model", help="Path or bare name of an ONNX model."),
        click.option(
            "--detector",
            type=click.Choice(["haar", "yunet", "none"]),
            default="haar",
            show_default=True,
            help="How faces are found; none: the picture is the face.",
        ),
        click.option(
            "--detector-model",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="YuNet's ONNX file.",
        ),
        click.option(
            "--min-face",
            type=click.IntRange(1),
            default=24,
            show_default=True,
            metavar="PIXELS",
            help="Leave out narrower faces.",
        ),
        click.option(
            "--margin",
            type=click.FloatRange(0, 2),
            metavar="SHARE",
            help="Share of a face's longer side added on each side [default: the model's].",
        ),
        click.option(
            "--uncertain",
            type=click.FloatRange(0, 1),
            default=0.0,
            metavar="P",
            help="Below this probability the label is 'uncertain'.",
        ),
        click.option(
            "--provider", type=click.Choice([AUTO, *PROVIDERS]), default="auto", show_default=True
        ),
        click.option("--threads", type=click.IntRange(1), help="[default: what this process has]"),
    ]
    names = [name for name in signature(_open_classifier).parameters if name != "more"]

    @wraps(command)
    def wrapper(**values: Any) -> Any:
        own = {name: values.pop(name) for name in names}
        return command(open_classifier=lambda **more: _open_classifier(**own, **more), **values)

    for option in reversed(options):
        wrapper = option(wrapper)
    return wrapper


def _open_classifier(
    *,
    model: str | None,
    detector: str,
    detector_model: Path | None,
    min_face: int,
    margin: float | None,
    uncertain: float,
    provider: str,
    threads: int | None,
    **more: Any,
) -> "Classifier":
    from fer_edge.classifier import Classifier
    from fer_edge.faces import open_detector

    finder = open_detector(detector, detector_model, min_face=min_face)  # type: ignore[arg-type]
    classifier = Classifier(
        model,
        detector=finder,
        margin=margin,
        uncertain=uncertain,
        provider=provider,
        threads=threads,
        **more,
    )
    for note in classifier.notes:
        click.echo(note, err=True)
    return classifier


@main.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@classifier_options
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "jsonl", "csv"]),
    default="table",
    show_default=True,
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@click.option("--max-pixels", type=click.IntRange(1), default=64_000_000, show_default=True)
@click.option("--largest", is_flag=True, help="Only the largest face of each picture.")
def classify(
    inputs: tuple[str, ...],
    open_classifier: Callable[..., "Classifier"],
    output_format: Any,
    output: Path | None,
    force: bool,
    top: int,
    batch_size: int,
    max_pixels: int,
    largest: bool,
) -> None:
    """Classify the faces of pictures: files, folders, or - for standard input."""
    from fer_edge.images import read_stdin
    from fer_edge.output import make_writer, text_output
    from fer_edge.pictures import classify_pictures, find_pictures

    classifier = open_classifier(batch_size=batch_size)
    pictures = find_pictures(inputs, read_stdin)
    width = max((len(picture.name) for picture in pictures), default=0)
    failed = 0
    with text_output(output, sys.stdout, force=force) as stream:
        writer = make_writer(
            output_format, stream, classifier.spec.labels, name_width=width, top=top
        )
        for _, record in classify_pictures(
            classifier, pictures, max_pixels=max_pixels, largest=largest
        ):
            writer.write(record)
            failed += record.status == "error"
    if failed:
        sys.exit(1)
