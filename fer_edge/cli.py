"""The command ``fer-edge``: parses, calls, prints. Heavy modules are imported inside commands."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fer_edge import __version__
from fer_edge._base.command import CommandGroup
from fer_edge.errors import SourceError
from fer_edge.inference.locate import DEFAULT_MODEL, DETECTORS
from fer_edge.inference.providers import AUTO, PROVIDERS
from fer_edge.video.options import DETECT_EVERY, MIN_FACE, RETRIES, TIMEOUT_S, VideoOptions

if TYPE_CHECKING:
    from fer_edge.inference.classifier import Classifier


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="fer-edge")
def main() -> None:
    """Tell emotions from faces in pictures and video, with ONNX models."""


def _numbers(
    context: click.Context, option: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"Expected numbers such as 0,255, received {value!r}") from error


def _size(
    context: click.Context, option: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    if value is None:
        return None
    sides = value.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise click.BadParameter(f"Expected 48 or HEIGHTxWIDTH, received {value!r}")
    return int(sides[0]), int(sides[-1])


def _names(
    context: click.Context, option: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(part.strip() for part in value.split(","))
    if not all(names) or len(set(names)) != len(names):
        raise click.BadParameter(f"Expected names that differ, such as A,B,C, received {value!r}")
    return names


def _ending(suffix: str) -> Callable[..., Path | None]:
    """Make a callback that refuses files that do not end so."""

    def check(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
        if value is not None and value.suffix.lower() != suffix:
            raise click.BadParameter(f"Expected a name that ends in {suffix}, received {value}")
        return value

    return check


def _grouped(
    argument: str, build: Callable[..., Any], options: Sequence[Callable[..., Any]]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a decorator that adds options and hands ``build`` of their values to the command.

    Args:
        argument: The command's parameter that receives what ``build`` returns.
        build: Its parameters are the options' names.
        options: From `click.option`.
    """
    names = list(signature(build).parameters)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def wrapper(**values: Any) -> Any:
            own = {name: values.pop(name) for name in names}
            return command(**{argument: build(**own)}, **values)

        for option in reversed(options):
            wrapper = option(wrapper)
        return wrapper

    return decorate


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _overrides(
    labels: Any, input_size: Any, layout: Any, color: Any, value_range: Any, mean: Any, std: Any,
    outputs: Any,
) -> dict[str, Any]:  # fmt: skip
    return _given(
        labels=labels,
        input_size=input_size,
        layout=layout,
        color=color,
        value_range=value_range,
        mean=mean,
        std=std,
        outputs=outputs,
    )


description_options = _grouped(
    "overrides",
    _overrides,
    [
        click.option("--labels", callback=_names, metavar="A,B,...", help="Label names, in order."),
        click.option("--input-size", callback=_size, metavar="HxW", help="Input size, pixels."),
        click.option("--layout", type=click.Choice(["nhwc", "nchw"]), help="Order of the axes."),
        click.option(
            "--channels", "color", type=click.Choice(["gray", "rgb", "bgr"]), help="Colours."
        ),
        click.option(
            "--range",
            "value_range",
            callback=_numbers,
            metavar="LOW,HIGH",
            help="What levels 0 and 255 become: 0,255 or 0,1 or -1,1.",
        ),
        click.option(
            "--mean", callback=_numbers, metavar="M[,M,M]", help="Then subtracted, in that range."
        ),
        click.option("--std", callback=_numbers, metavar="S[,S,S]", help="Then divided by."),
        click.option(
            "--outputs",
            type=click.Choice(["probabilities", "logits"]),
            help="What the model answers with.",
        ),
    ],
)
"""Describe a model that does not describe itself; the command receives ``overrides``."""


def _runtime(provider: str, threads: int | None) -> dict[str, Any]:
    return {"provider": provider, "threads": threads}


runtime_options = _grouped(
    "runtime",
    _runtime,
    [
        click.option(
            "--provider",
            type=click.Choice([AUTO, *PROVIDERS]),
            default=AUTO,
            show_default=True,
            help="What runs the model; fails where it is not there.",
        ),
        click.option(
            "--threads",
            type=click.IntRange(1, 1024),
            help="[default: what affinity mask and cgroup quota allow]",
        ),
    ],
)
"""Choose provider and threads; the command receives ``runtime``."""


def _faces(
    detector: str,
    detector_model: Path | None,
    margin: float | None,
    uncertain: float,
    mirror: bool,
) -> dict[str, Any]:
    return {
        "detector": detector,
        "detector_model": detector_model,
        "margin": margin,
        "uncertain": uncertain,
        "mirror": mirror,
    }


_face_options = _grouped(
    "faces",
    _faces,
    [
        click.option(
            "--detector",
            type=click.Choice(DETECTORS),
            default="haar",
            show_default=True,
            help="How faces are found; none: the picture is the face.",
        ),
        click.option(
            "--detector-model",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="ONNX file of the yunet detector.",
        ),
        click.option(
            "--margin",
            type=click.FloatRange(0, 2),
            metavar="SHARE",
            help="Share of a face's longer side added on each side. [default: the model's]",
        ),
        click.option(
            "--uncertain",
            type=click.FloatRange(0, 1),
            default=0.0,
            metavar="P",
            help="Label faces below this probability 'uncertain'.",
        ),
        click.option(
            "--mirror",
            is_flag=True,
            help="Answer with the mean of each face and its mirror image: takes twice as long and "
            "is right more often, see the README.",
        ),
    ],
)


def classifier_options(*, smallest: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a decorator that adds the options that choose and describe model, detector and provider.

    The command receives ``open_classifier`` in their place; called, with further arguments of
    `Classifier` if need be, it makes the classifier that they ask for.

    Args:
        smallest: The command's default of ``--min-face``.
    """
    options: Sequence[Callable[..., Any]] = [
        click.option(
            "--model",
            metavar="NAME|FILE",
            help="ONNX model: a path, or a name looked for here, in exported/ and in the package. "
            f"[default: {DEFAULT_MODEL}]",
        ),
        click.option(
            "--min-face",
            type=click.IntRange(1),
            metavar="PIXELS",
            help="Leave out faces whose longer side is less; large pictures are searched as finely "
            f"as that asks for, which takes longer. [default: {smallest}, and in large pictures a "
            "32nd of the longer side]",
        ),
        _face_options,
        runtime_options,
        description_options,
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def wrapper(
            *,
            model: str | None,
            min_face: int | None,
            overrides: dict[str, Any],
            faces: dict[str, Any],
            runtime: dict[str, Any],
            **values: Any,
        ) -> Any:
            # Unless it is said how small faces may be, large pictures are searched in little time.
            sizes = (
                {"min_face": smallest}
                if min_face is None
                else {"min_face": min_face, "max_side": None}
            )
            own = {"sizes": sizes, "overrides": overrides, **faces, **runtime}

            def open_classifier(**more: Any) -> "Classifier":
                return _open_classifier(model, **own, **more)

            return command(open_classifier=open_classifier, **values)

        decorated: Callable[..., Any] = wrapper
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _open_classifier(
    model: str | None,
    *,
    detector: Any,
    detector_model: Path | None,
    sizes: dict[str, Any],
    quiet: bool = False,
    **values: Any,
) -> "Classifier":
    from fer_edge.inference.classifier import Classifier
    from fer_edge.inference.detectors import open_detector

    if (detector == "yunet") != (detector_model is not None):
        raise click.UsageError(
            "Expected --detector yunet and --detector-model FILE together (the file is "
            "face_detection_yunet_2023mar.onnx of OpenCV's model zoo)"
        )
    classifier = Classifier(
        model, detector=open_detector(detector, detector_model, **sizes), **values
    )
    for note in [] if quiet else classifier.notes:
        click.echo(note, err=True)
    return classifier


@main.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "jsonl", "json", "csv", "parquet"]),
    help="jsonl: a record a picture, a line each; json: an array of them; csv, parquet: a row a "
    "face. [default: as FILE ends, else table]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write there, not to stdout, which - is.",
)
@click.option(
    "--annotate",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write pictures with boxes, labels and bars there.",
)
@click.option(
    "--crops",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write each face there as a picture of its own, its eyes level where the detector "
    "finds them.",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option(
    "--resume", is_flag=True, help="Go on with FILE: pictures that have a record in it are done."
)
@click.option(
    "--watch", is_flag=True, help="Go on as the folders fill, until Ctrl-C: pictures that come."
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
@click.option(
    "--top",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="N",
    help="Emotions listed in tables and drawn on pictures.",
)
@click.option("--largest", is_flag=True, help="Only the largest face of each picture.")
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    metavar="N",
    help="Refuse larger pictures before decoding them. [default: 64 million]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    metavar="N",
    help="Most faces that the model sees at once.",
)
@classifier_options(smallest=24)
def classify(open_classifier: Callable[..., "Classifier"], **options: Any) -> None:
    """Classify the faces of pictures: files, folders with all below them, http(s) addresses, - for
    standard input.

    Exit status: 0 all read, 1 some failed (the others are still done), 2 wrong usage, 130 ended by
    Ctrl-C, 143 by SIGTERM, 129 by a closed terminal, with the records until then.
    """  # noqa: D205 - one sentence, of which click makes one line of help
    from fer_edge.picture.run import PictureOptions, run_pictures

    run_pictures(open_classifier, PictureOptions(**options))


@main.command()
@click.argument("model", default=DEFAULT_MODEL, metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@runtime_options
@description_options
def info(model: str, as_json: bool, runtime: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Show what a model file says of itself, its digest and what can run it."""
    from fer_edge._base._ort import onnxruntime
    from fer_edge.inference.classifier import Classifier
    from fer_edge.inference.providers import short_name

    classifier = Classifier(model, detector="none", overrides=overrides, **runtime)
    for note in classifier.notes:
        click.echo(note, err=True)
    facts: dict[str, Any] = {
        "file": str(classifier.model_path),
        "bytes": classifier.model_path.stat().st_size,
        "sha256": classifier.digest,
        **dataclasses.asdict(classifier.spec),
        "runs_on": classifier.provider,
        "providers": [short_name(name) for name in onnxruntime.get_available_providers()],
    }
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {number:.4g}" for key, number in value.items())
        elif isinstance(value, (tuple, list)):
            value = ", ".join(map(str, value))
        click.echo(f"{name:<16} {'-' if value in ('', None) else value}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(as_json: bool) -> None:
    """Check this installation: packages, providers, GPU libraries, cameras, display, speed."""
    from fer_edge.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps(findings, indent=2))
    else:
        for name, value in findings.items():
            if name == "problems":
                continue
            if isinstance(value, dict):
                value = ", ".join(f"{key} {item}" for key, item in value.items())
            elif isinstance(value, list):
                value = ", ".join(map(str, value))
            click.echo(f"{name:<16} {'-' if value in ('', None) else value}")
        for problem in findings["problems"]:
            click.echo(f"problem: {problem}", err=True)
    if findings["problems"]:
        sys.exit(1)


@main.command()
@click.argument("source")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write records there as they come, - for stdout. [default: stdout where there is neither "
    "window, recording nor timeline]",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["jsonl", "json", "csv", "parquet"]),
    help="jsonl: a record a frame, a line each; json: an array of them; csv, parquet: a row a "
    "face. [default: as FILE ends, else jsonl]",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    callback=_ending(".mp4"),
    metavar="FILE.mp4",
    help="Record the video with boxes, labels and bars.",
)
@click.option(
    "--timeline",
    type=click.Path(path_type=Path),
    callback=_ending(".png"),
    metavar="FILE.png",
    help="Draw each face's emotions over time.",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@click.option(
    "--display/--no-display",
    default=None,
    help="Show a window: q or Esc ends, space pauses, s saves a picture. [default: where there is "
    "a display]",
)
@click.option(
    "--smooth",
    type=click.FloatRange(0, 3600),
    default=0.0,
    metavar="SECONDS",
    help="Smooth each face's probabilities over about so long.",
)
@click.option("--largest", is_flag=True, help="Only the largest face of each frame.")
@click.option(
    "--detect-every",
    type=click.IntRange(1),
    default=DETECT_EVERY,
    show_default=True,
    metavar="N",
    help="Follow faces for at most so many frames between detections; 1: detect in every frame.",
)
@click.option(
    "--every", type=click.IntRange(1), default=1, metavar="N", help="Take every N-th frame only."
)
@click.option(
    "--max-frames", type=click.IntRange(1), metavar="N", help="End after taking so many frames."
)
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="End after so many seconds of video.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="Longest wait for a source to open and for each frame.",
)
@click.option(
    "--retries",
    type=click.IntRange(0, 20),
    default=RETRIES,
    show_default=True,
    metavar="N",
    help="Open a live source that stopped so often again, after growing pauses.",
)
@classifier_options(smallest=MIN_FACE)
def video(source: str, open_classifier: Callable[..., "Classifier"], **options: Any) -> None:
    """Watch a camera (cam0, cam1, ...), a video file, a device path, or an rtsp or http URL.

    Exit status: 0 watched to the end, 1 the source failed or stopped, 2 wrong usage, 130 ended by
    Ctrl-C, 143 by SIGTERM. What was written until then is whole in each case.
    """
    from fer_edge.video.run import run_video

    # Between two frames the processor belongs to decoding and detection.
    classifier = open_classifier(spin=False)
    sys.exit(run_video(source, classifier, VideoOptions(**options)))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def cameras(as_json: bool) -> None:
    """List the cameras that open, with size and rate.

    Exit status: 0 some were found, 1 none.
    """
    from fer_edge.video.cameras import list_cameras

    found = list_cameras()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(camera) for camera in found]))
    for camera in [] if as_json else found:
        rate = f"{camera.fps:g} frames/s" if camera.fps else "rate unknown"
        click.echo(f"{camera.source}  {camera.width} x {camera.height}  {rate}  {camera.name}")
    if not found:
        raise SourceError(
            "No camera opens; plug one in, close other programs that use it, and see that you may "
            "use it (on Linux: sudo usermod -aG video $USER, then log in again)"
        )
