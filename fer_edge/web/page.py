"""What the page of ``web/`` is made of, and what it is told of models and choices.

The page acts on what is served to it as ``settings.json``; it reads no metadata of its own.
"""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fer_edge
from fer_edge.contract import Prior, prior_power
from fer_edge.errors import DependencyError, ModelError
from fer_edge.image.read import MAX_PIXELS
from fer_edge.inference.describe import describe_model
from fer_edge.inference.detectors import WORKING_SIDE, OnnxDetector, detector_spec
from fer_edge.inference.locate import DEFAULT_DETECTOR, find_model
from fer_edge.inference.onnx_file import ModelFile, read_model
from fer_edge.inference.preprocess import LEAST_TILT
from fer_edge.picture.draw import emotion_color

RUNTIME = "onnxruntime-web"
"""The npm package that runs the models; ``package.json`` has its version."""

_RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)
_PAGE_SUFFIXES = frozenset((".html", ".css", ".js", ".svg"))
_TYPES = {"float": "float32", "uint8": "uint8"}
"""Inputs that the page fills."""


@dataclass(frozen=True)
class PageOptions:
    """What the page does with pictures; named as arguments of `fer_edge.Classifier`.

    Attributes:
        model: Path or bare name of the classifier, or None for the default.
        preset: Name of a well-known model of another maker that it is, or None.
        detector_model: Path or bare name of a face network, or None for the shipped one.
        min_face: Faces whose longer side is below this many pixels are not reported; large
            pictures are searched as finely as that asks for.
        searched: Longer side at which pictures are searched, pixels, or None for what ``min_face``
            asks.
        uncertain: Below this probability the label is ``uncertain``.
        mirror: Whether probabilities are means over each face and its mirror image, in pictures.
        align: Whether tilted faces are turned upright.
        prior: As for `fer_edge.Classifier`.
    """

    model: str | None = None
    preset: str | None = None
    detector_model: Path | None = None
    min_face: int = 24
    searched: int | None = WORKING_SIDE
    uncertain: float = 0.0
    mirror: bool = True
    align: bool = True
    prior: Prior | float | None = None


def page_folder() -> Path:
    """Return the folder of the page's own files."""
    package = Path(__file__).parent
    inside = package / "page"
    # A wheel keeps them inside of the package, a checkout beside it.
    return inside if inside.is_dir() else package.parents[1] / "web"


def page_files(
    options: PageOptions, description: Mapping[str, Any], node_modules: Path | None = None
) -> dict[str, Path | bytes]:
    """Return all that is served: files, or their content, by their addresses.

    Args:
        options: What the page does with pictures.
        description: What the user says of the model, as `read_description` reads it.
        node_modules: Where npm has installed `RUNTIME`; None means beside the page.

    Raises:
        DependencyError: `RUNTIME` is missing or of another version.
        ModelError: A model cannot be used, or not by a browser.
    """
    page = page_folder()
    runtime = _find_runtime(page, node_modules or page / "node_modules")
    classifier, detector = _read_models(options)
    settings = {
        "version": fer_edge.__version__,
        "max_pixels": MAX_PIXELS,
        "mirror": options.mirror,
        "detector": _detector_settings(detector, options),
        **_classifier_settings(classifier, options, description),
    }
    models = {
        address: path
        for kind, file in (("classifier", classifier), ("detector", detector))
        for address, path in zip(_addresses(kind, file), (file.path, *file.data_files), strict=True)
    }
    return {
        **{f"/{path.name}": path for path in page.iterdir() if path.suffix in _PAGE_SUFFIXES},
        **{f"/runtime/{name}": runtime / name for name in _RUNTIME_FILES},
        **models,
        "/settings.json": json.dumps(settings).encode(),
    }


def _find_runtime(page: Path, node_modules: Path) -> Path:
    wanted = json.loads((page / "package.json").read_text("utf-8"))["dependencies"][RUNTIME]
    package = node_modules / RUNTIME
    try:
        found = json.loads((package / "package.json").read_text("utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    complete = all((package / "dist" / name).is_file() for name in _RUNTIME_FILES)
    if found != wanted or not complete:
        received = "none" if found is None else found if found != wanted else "a part of it"
        raise DependencyError(
            f"Expected {RUNTIME} {wanted}, with which the page runs models, in {node_modules}, "
            f"received {received}; run: npm ci --prefix {shlex.quote(str(page))} (where you may "
            f"not write there: npm install --prefix DIR {RUNTIME}@{wanted}, and give "
            "`node_modules=DIR/node_modules`)"
        )
    return package / "dist"


def _read_models(options: PageOptions) -> tuple[ModelFile, ModelFile]:
    paths = (
        find_model(options.model),
        find_model(options.detector_model, default=DEFAULT_DETECTOR),
    )
    classifier, detector = (read_model(path)[1] for path in paths)
    return classifier, detector


def _addresses(kind: str, file: ModelFile) -> list[str]:
    return [f"/models/{kind}/{path.name}" for path in (file.path, *file.data_files)]


def _classifier_settings(
    file: ModelFile, options: PageOptions, description: Mapping[str, Any]
) -> dict[str, Any]:
    name = file.path.name
    if len(file.inputs) != 1 or file.inputs[0].type not in _TYPES:
        raise ModelError(
            f"Expected one input of {name}, of {' or '.join(_TYPES)}, for a browser, received "
            f"{'; '.join(map(str, file.inputs)) or 'none'}"
        )
    spec, reading = describe_model(file, description, options.preset)
    types = {output.name: output.type for output in file.outputs}
    if other := [output for output, _ in reading if types[output] not in ("float", "double")]:
        raise ModelError(
            f"Expected outputs of float or double of {name}, for a browser, received "
            f"{', '.join(f'{output} {types[output]}' for output in other)}"
        )
    [source] = file.inputs
    batch = source.shape[0] if source.shape else None
    colors = {label: emotion_color(label, spec.labels) for label in spec.labels}
    return {
        "classifier": {
            "name": name,
            "files": _addresses("classifier", file),
            "type": _TYPES[source.type],
            "fixed_batch": batch if isinstance(batch, int) else None,
            "reading": reading,
            "spec": dataclasses.asdict(spec),
            "prior": prior_power(options.prior, spec, name),
            "uncertain": options.uncertain,
            "least_tilt": LEAST_TILT if options.align else None,
        },
        "colors": {
            label: f"#{red:02x}{green:02x}{blue:02x}"
            for label, (blue, green, red) in colors.items()
        },
    }


def _detector_settings(file: ModelFile, options: PageOptions) -> dict[str, Any]:
    return {
        "name": file.path.name,
        "files": _addresses("detector", file),
        **dataclasses.asdict(detector_spec(file)),
        "min_face": options.min_face,
        "max_side": options.searched,
        "smallest": OnnxDetector.SMALLEST,
        "working_side": WORKING_SIDE,
    }
