"""The command ``fer-edge``: parses, calls, prints. Heavy modules are imported inside commands."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

from fer_edge import __version__
from fer_edge._base.command import CommandGroup
from fer_edge._base.findings import plain, print_facts, print_findings
from fer_edge._base.sections import section
from fer_edge.contract import DEFAULT_PRIOR_POWER, Description, Prior
from fer_edge.errors import SourceError
from fer_edge.inference.flags import description_options, detector_options, grouped
from fer_edge.inference.locate import DEFAULT_DETECTOR, DEFAULT_MODEL, DetectorName
from fer_edge.inference.presets import PRESETS
from fer_edge.inference.providers import AUTO, PROVIDERS
from fer_edge.video.options import (
    DETECT_EVERY,
    MIN_FACE,
    RETRIES,
    SEQUENCE_FPS,
    TIMEOUT_S,
    VideoOptions,
)

if TYPE_CHECKING:
    from fer_edge.inference.classifier import Classifier


@click.group(
    cls=CommandGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "auto_envvar_prefix": "FER_EDGE",
    },
)
@click.version_option(__version__, "-V", "--version", prog_name="fer-edge")
def main() -> None:
    """Tell emotions from faces in pictures and video, with ONNX models."""


def _ending(suffix: str) -> Callable[..., Path | None]:
    """Make a callback that refuses files that end otherwise; without an ending it is a folder."""

    def check(context: click.Context, option: click.Parameter, value: Path | None) -> Path | None:
        known = value is None or value.suffix.lower() in (suffix, "") or value.is_dir()
        if not known:
            raise click.BadParameter(
                f"Expected a name that ends in {suffix}, or a folder, received {value}"
            )
        return value

    return check


def _field_names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


@dataclass(frozen=True)
class ModelOptions:
    """Which model is used, and what runs it; named as arguments of `Classifier`."""

    model: str | None
    preset: str | None
    provider: str
    threads: int | None


_MODEL_NAME = click.option(
    "--model",
    metavar="NAME|FILE",
    help="ONNX model: a path, or a name looked for here, in exported/ and in the package. "
    f"[default: {DEFAULT_MODEL}]",
)
_PRESET = click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="Describe the model as this well-known one of another maker.",
)
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors.")
_RUNTIME = (
    click.option(
        "--provider",
        type=click.Choice([AUTO, *PROVIDERS]),
        default=AUTO,
        show_default=True,
        help="What runs the model. One that is missing is an error.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        help="Threads of one inference. [default: what affinity mask and cgroup quota allow]",
    ),
)


@dataclass(frozen=True)
class FaceOptions:
    """How faces are found and probabilities read; named as on the command line."""

    min_face: int | None
    detector: DetectorName
    detector_model: Path | None
    uncertain: float
    mirror: bool | None
    align: bool
    prior: Prior | float | None


def _read_prior(
    context: click.Context, option: click.Parameter, value: str | None
) -> Prior | float | None:
    if value is None or value in get_args(Prior):
        return cast("Prior | None", value)
    try:
        power = float(value)
    except ValueError as error:
        raise click.BadParameter(
            f"Expected training, uniform or a number, received {value!r}"
        ) from error
    if not 0 <= power <= 2:
        raise click.BadParameter(f"Expected a power from 0 to 2, received {value}")
    return power


def _min_face_option(smallest: int) -> Callable[..., Any]:
    return click.option(
        "--min-face",
        type=click.IntRange(1),
        metavar="PIXELS",
        help="Leave out faces whose longer side is shorter. Large pictures are searched finely "
        f"enough for this size, which takes longer. [default: {smallest}, and in large pictures a "
        "50th of the longer side]",
    )


def _prediction_options(mirrored: str) -> Sequence[Callable[..., Any]]:
    return (
        click.option(
            "--uncertain",
            type=click.FloatRange(0, 1),
            default=0.0,
            show_default=True,
            metavar="P",
            help="Label faces below this probability 'uncertain'.",
        ),
        click.option(
            "--mirror/--no-mirror",
            default=None,
            help="Predict each face and its mirror image, and take the mean. It is right more "
            f"often, and the model runs twice. [default: {mirrored}]",
        ),
        click.option(
            "--align/--no-align",
            default=True,
            show_default=True,
            help="Turn tilted faces upright, where the detector finds their eyes.",
        ),
        click.option(
            "--prior",
            callback=_read_prior,
            metavar="training|uniform|POWER",
            help="Divide the probabilities by how often each label occurred in training: training "
            "keeps them, uniform treats all labels as equally frequent, 0.5 lies between. "
            f"[default: {DEFAULT_PRIOR_POWER:g} where the model says it]",
        ),
    )


def classifier_options(
    *, smallest: int, mirror: bool
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a decorator that adds the options that choose and describe model, detector and provider.

    The command receives ``open_classifier`` in their place; called, with further arguments of
    `Classifier` if need be, it makes the classifier that they ask for.

    Args:
        smallest: The command's default of ``--min-face``.
        mirror: Whether faces that a detector has found are mirrored unless it is said.
    """
    mirrored = "on, off with --detector none" if mirror else "off"
    options = [
        grouped(
            "chosen",
            ModelOptions,
            _field_names(ModelOptions),
            [section("Model", _MODEL_NAME, _PRESET, *_RUNTIME)],
        ),
        grouped(
            "faces",
            FaceOptions,
            _field_names(FaceOptions),
            [
                section(
                    "Faces and predictions",
                    _min_face_option(smallest),
                    detector_options,
                    *_prediction_options(mirrored),
                )
            ],
        ),
        description_options(),
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def wrapper(
            *, chosen: ModelOptions, faces: FaceOptions, description: Description, **values: Any
        ) -> Any:
            def open_classifier(**more: Any) -> "Classifier":
                if faces.mirror is None:
                    more["mirror"] = mirror and faces.detector != "none"
                return _open_classifier(chosen, faces, description, smallest, **more)

            return command(open_classifier=open_classifier, **values)

        decorated: Callable[..., Any] = wrapper
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _open_classifier(
    chosen: ModelOptions,
    faces: FaceOptions,
    description: Description,
    smallest: int,
    **more: Any,
) -> "Classifier":
    from fer_edge.inference.classifier import Classifier
    from fer_edge.inference.detectors import open_detector

    # Unless it is said how small faces may be, large pictures are searched in little time.
    sizes = {} if faces.min_face is None else {"max_side": None}
    detector = open_detector(
        faces.detector,
        faces.detector_model,
        min_face=faces.min_face or smallest,
        provider=chosen.provider,
        **sizes,
    )
    own = {name: getattr(faces, name) for name in ("mirror", "uncertain", "prior", "align")}
    arguments: dict[str, Any] = {**dataclasses.asdict(chosen), **own, **description, **more}
    return Classifier(detector=detector, **arguments)


@main.command()
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@section(
    "Output",
    click.option(
        "--format",
        "output_format",
        envvar="FER_EDGE_CLASSIFY_FORMAT",
        type=click.Choice(["table", "jsonl", "json", "csv", "parquet"]),
        help="jsonl: a record a picture, a line each; json: an array of them; csv, parquet: a row "
        "a face. [default: as FILE ends, else table]",
    ),
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write to FILE in place of stdout; - is stdout.",
    ),
    click.option(
        "--annotate",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Write pictures with boxes, labels and bars there.",
    ),
    click.option(
        "--crops",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Write each face there as a picture of its own, its eyes level where the detector "
        "finds them.",
    ),
    click.option("--force", is_flag=True, help="Replace existing files."),
    click.option(
        "--resume",
        is_flag=True,
        help="Continue FILE: pictures that have a record in it are left out.",
    ),
    _QUIET,
    click.option(
        "--top",
        type=click.IntRange(1),
        default=3,
        show_default=True,
        metavar="N",
        help="Emotions listed in tables and drawn on pictures.",
    ),
)
@section(
    "Input",
    click.option(
        "--watch", is_flag=True, help="Classify new pictures as the folders fill, until Ctrl-C."
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(1),
        metavar="N",
        help="Refuse larger pictures before decoding them. [default: 64 million]",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1, 4096),
        metavar="N",
        help="Most faces that the model sees at once. [default: 64, on a graphics card 256]",
    ),
)
@section(
    "Faces and predictions",
    click.option("--largest", is_flag=True, help="Only the largest face of each picture."),
)
@classifier_options(smallest=MIN_FACE, mirror=True)
def classify(open_classifier: Callable[..., "Classifier"], **options: Any) -> None:
    """Classify the faces of pictures.

    An INPUT is a file, a folder with all below it, an http(s) address, or - for standard input.

    Exit status: 0 all were read, 1 some failed and the others are done, 2 wrong usage, 129 ended by
    a closed terminal, 130 by Ctrl-C, 143 by SIGTERM. The records until then are kept.
    """
    from fer_edge.picture.run import PictureOptions, run_pictures

    run_pictures(open_classifier, PictureOptions(**options))


@main.command()
@click.argument("model", default=DEFAULT_MODEL, metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@_QUIET
@grouped(
    "chosen",
    ModelOptions,
    _field_names(ModelOptions),
    [section("Model", _PRESET, *_RUNTIME)],
)
@description_options()
def info(as_json: bool, quiet: bool, chosen: ModelOptions, description: Description) -> None:
    """Show what a model file holds, and what can run it.

    For a file without a description it shows the flags to try.
    """
    from fer_edge.inference.overview import model_facts

    facts, problem = model_facts(description=description, **dataclasses.asdict(chosen))
    print_facts(facts, as_json=as_json)
    if problem is not None:
        raise problem


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def models(as_json: bool) -> None:
    """List the models that are found by their names, and where.

    Models are looked for here, in exported/ and in the package. Of two with one name the first is
    taken.
    """
    from fer_edge.inference.overview import list_models

    found = list_models()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for model in found:
        # The first are the ones that cards and tables lead with; --json has them all.
        scores = dict(list(model["scores"].items())[:_SHOWN_SCORES])
        click.echo(
            f"{model['name']:<24} {model['task'] or '-':<14} {model['bytes'] / 1e6:>6.2f} MB  "
            f"{model['folder']}  {model['note'] or plain(scores)}"
        )


_SHOWN_SCORES = 3


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(as_json: bool) -> None:
    """Check the installation: packages, GPU, cameras, display, speed."""
    from fer_edge.doctor import examine

    print_findings(examine(), as_json=as_json)


def _region(
    context: click.Context, option: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    if value is None:
        return None
    parts = value.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise click.BadParameter(f"Expected LEFT,TOP,WIDTH,HEIGHT in pixels, received {value!r}")
    region = tuple(map(int, parts))
    if not (region[2] and region[3]):
        raise click.BadParameter(f"Expected a width and height above 0, received {value!r}")
    return region


@main.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@section(
    "Output",
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write records there as they come, - for stdout. [default: stdout where there is "
        "neither window, recording nor timeline]",
    ),
    click.option(
        "--format",
        "output_format",
        envvar="FER_EDGE_VIDEO_FORMAT",
        type=click.Choice(["jsonl", "json", "csv", "parquet"]),
        help="jsonl: a record a frame, a line each; json: an array of them; csv, parquet: a row a "
        "face. [default: as FILE ends, else jsonl]",
    ),
    click.option(
        "--record",
        type=click.Path(path_type=Path),
        callback=_ending(".mp4"),
        metavar="FILE.mp4|DIR",
        help="Record the video with boxes, labels and bars; several into a folder.",
    ),
    click.option(
        "--timeline",
        type=click.Path(path_type=Path),
        callback=_ending(".png"),
        metavar="FILE.png|DIR",
        help="Draw each face's emotions over time; several videos into a folder.",
    ),
    click.option("--force", is_flag=True, help="Replace existing files."),
    _QUIET,
    click.option(
        "--display/--no-display",
        default=None,
        help="Show a window: q or Esc ends, space pauses, s saves a picture. [default: where there "
        "is a display]",
    ),
)
@section(
    "Faces over time",
    click.option(
        "--smooth",
        type=click.FloatRange(0, 3600),
        default=0.0,
        show_default=True,
        metavar="SECONDS",
        help="Smooth each face's probabilities over about this time.",
    ),
    click.option("--largest", is_flag=True, help="Only the largest face of each frame."),
    click.option(
        "--detect-every",
        type=click.IntRange(1),
        default=DETECT_EVERY,
        show_default=True,
        metavar="N",
        help="Detect faces in every N-th frame at least, follow them between; 1: detect in each.",
    ),
)
@section(
    "Input",
    click.option(
        "--roi",
        callback=_region,
        metavar="LEFT,TOP,WIDTH,HEIGHT",
        help="Look only at that part of each frame, pixels of the upright picture.",
    ),
    click.option(
        "--every",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        metavar="N",
        help="Take every N-th frame only.",
    ),
    click.option(
        "--max-frames", type=click.IntRange(1), metavar="N", help="End after N frames were taken."
    ),
    click.option(
        "--duration",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="End after this much video.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(0.1, 3600),
        default=TIMEOUT_S,
        show_default=True,
        metavar="SECONDS",
        help="Longest wait for a source to open and for each frame.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0, 20),
        default=RETRIES,
        show_default=True,
        metavar="N",
        help="Tries to open a live source that stopped, after growing pauses.",
    ),
    click.option(
        "--fps",
        type=click.FloatRange(0, 1000, min_open=True),
        default=SEQUENCE_FPS,
        show_default=True,
        metavar="N",
        help="Frames per second of numbered pictures.",
    ),
)
@classifier_options(smallest=MIN_FACE, mirror=False)
def video(
    sources: tuple[str, ...], open_classifier: Callable[..., "Classifier"], **options: Any
) -> None:
    """Classify the faces of videos, cameras and streams.

    A SOURCE is cam0, cam1, ..., a file, a folder with all videos below it, a device path, an rtsp
    or http URL, numbered pictures such as img_%04d.jpg, or - for standard input. Several are
    watched one after the other; each record then names its source.

    Exit status: 0 watched to the end, 1 a source failed or stopped, 2 wrong usage, 129 ended by a
    closed terminal, 130 by Ctrl-C, 143 by SIGTERM. The files written until then are whole.
    """
    from fer_edge.video.run import run_video

    # Between two frames the processor belongs to decoding and detection.
    classifier = open_classifier(spin=False)
    sys.exit(run_video(sources, classifier, VideoOptions(**options)))


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


@main.command()
@section(
    "Page",
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=8765,
        show_default=True,
        metavar="N",
        help="Port of the page; 0 takes one that is free.",
    ),
    click.option(
        "--host",
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        help="Address of this machine to listen at. With another than the default, other machines "
        "can open the page.",
    ),
    click.option(
        "--open/--no-open",
        "opens",
        default=True,
        show_default=True,
        help="Open the page in a browser, where there is one.",
    ),
    click.option(
        "--node-modules",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Where npm has installed onnxruntime-web. [default: beside the page]",
    ),
    _QUIET,
)
@section("Model", _MODEL_NAME, _PRESET)
@section(
    "Faces and predictions",
    _min_face_option(MIN_FACE),
    click.option(
        "--detector-model",
        type=click.Path(path_type=Path),
        metavar="NAME|FILE",
        help=f"ONNX file of another face network. [default: {DEFAULT_DETECTOR}]",
    ),
    *_prediction_options("on, off for camera and video"),
)
@description_options()
def web(
    port: int,
    host: str,
    opens: bool,
    node_modules: Path | None,
    quiet: bool,
    min_face: int | None,
    mirror: bool | None,
    description: Description,
    **options: Any,
) -> None:
    """Serve a page that runs the models in a browser.

    The page classifies the camera, videos and pictures. Nothing leaves the machine, and no network
    is needed. The page's address is printed; Ctrl-C ends.

    Exit status: 1 the page cannot be served, 2 wrong usage, 130 ended by Ctrl-C, 143 by SIGTERM,
    129 by a closed terminal.
    """
    from fer_edge.web.page import PageOptions
    from fer_edge.web.serve import serve_page

    # Unless it is said how small faces may be, large pictures are searched in little time.
    if min_face is not None:
        options |= {"min_face": min_face, "searched": None}
    page = PageOptions(mirror=mirror is not False, **options)
    sys.exit(
        serve_page(
            page,
            description,
            host=host,
            port=port,
            opens=opens,
            node_modules=node_modules,
            quiet=quiet,
        )
    )
