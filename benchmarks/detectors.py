"""Recall, false positives and times of the face detectors, on made scenes and on pictures.

A scene is a head, cut from the public-domain portrait in tests/data (or faces of a folder, with
``--faces``), set into one of scikit-image's own pictures or a drawn background, at a known place,
size, tilt and brightness. The backgrounds without a head count false positives too.

    python benchmarks/detectors.py --json benchmarks/results/detectors.json

``--pictures`` evaluates on real pictures with boxes, none of which comes with the project: recall
at an overlap of 0.4, boxes in pictures without a face, whole curves of precision and recall.

``--sweep`` compares OpenCV's frontal cascades and their settings instead;
`fer_edge.inference.detectors` takes the fastest of those that find as many faces with hardly a
false one.

    python benchmarks/detectors.py --sweep --json benchmarks/results/cascades.json
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

from benchmarks.machine import json_option, write_results
from fer_edge.contract import DetectorSpec
from fer_edge.errors import DetectorError
from fer_edge.image.read import Frame, read_image
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.detectors import (
    Face,
    FaceDetector,
    OnnxDetector,
    YuNetDetector,
    open_detector,
)
from fer_edge.inference.preprocess import Box, resize, to_gray
from fer_edge.inference.search import decode, shrink, suppress, to_input
from fer_train.detection.evaluation import SIZES as SIDES
from fer_train.detection.evaluation import evaluate, evaluate_turned
from fer_train.detection.pictures import Picture, read_pictures

ROOT = Path(__file__).parents[1]
PORTRAIT = ROOT / "tests/data/portrait.jpg"
PORTRAIT_FACE: Box = (180, 68, 92, 92)
"""Brows to chin of the portrait, marked by hand."""
HEIGHT, WIDTH = 480, 640
SIZES = (24, 32, 48, 64, 96, 160)
TILTS = (-30, -20, -10, 0, 10, 20, 30)
LIGHTS = {"dark": 0.35, "dim": 0.65, "plain": 1.0, "bright": 1.35}
OVERLAP = 0.4
"""Least intersection over union at which a box counts as the face."""


LEAST_SCORE = 0.05
FALSE_BOXES = (6, 13, 18, 27)
ANGLES = (-45, -30, 30, 45)
SMALLEST = 24
CASCADES = ("default", "alt", "alt2")
SCALE_FACTORS = (1.1, 1.2)
MIN_NEIGHBORS = (3, 5, 8)


@dataclass(frozen=True)
class Scene:
    """A frame and where its only face is, if there is one."""

    frame_bgr: Frame
    face: Box | None
    kind: str
    value: str


def backgrounds() -> dict[str, Frame]:
    """Return pictures without faces: public-domain ones and drawn ones, all of one size."""
    names = ("brick", "grass", "gravel", "coffee", "rocket", "chelsea", "retina", "moon")
    pictures = {name: getattr(skimage.data, name)() for name in names}
    pictures["stars"] = skimage.data.hubble_deep_field()
    pictures["tissue"] = skimage.data.immunohistochemistry()
    found = {}
    for name, picture in pictures.items():
        color = cv2.COLOR_GRAY2BGR if picture.ndim == 2 else cv2.COLOR_RGB2BGR
        found[name] = resize(np.asarray(cv2.cvtColor(picture, color), np.uint8), (HEIGHT, WIDTH))
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    found["blobs"] = resize(noise, (HEIGHT, WIDTH))
    found["noise"] = generator.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    room = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    for _ in range(40):
        x, y = (int(limit * generator.random()) for limit in (WIDTH, HEIGHT))
        w, h = (int(20 + 140 * generator.random()) for _ in range(2))
        shade = tuple(int(level) for level in generator.integers(0, 256, 3))
        if generator.random() < 0.5:
            cv2.rectangle(room, (x, y), (x + w, y + h), shade, -1)
        else:
            cv2.ellipse(room, (x, y), (w // 2, h // 2), 0, 0, 360, shade, -1)
    found["shapes"] = room
    return found


def paste(
    background: Frame, head: Frame, face: Box, size: int, tilt: float, light: float, at: float
) -> tuple[Frame, Box]:
    """Set a head into a background.

    Args:
        background: (H, W, 3) uint8 BGR.
        head: (h, w, 3) uint8 BGR.
        face: The face in the head's picture.
        size: Width that the face gets, pixels.
        tilt: Degrees, to the left.
        light: Factor for the head's levels.
        at: Where from left (0) to right (1) it stands.

    Returns:
        The scene, and the face's upright box in it.
    """
    left, top, width, height = face
    scale = size / width
    reach = 1.3 * size
    center = (
        reach + at * (background.shape[1] - 2 * reach),
        background.shape[0] / 2,
    )
    turn = cv2.getRotationMatrix2D((left + width / 2, top + height / 2), tilt, scale)
    turn[0, 2] += center[0] - (left + width / 2)
    turn[1, 2] += center[1] - (top + height / 2)
    # Averaged before it is made smaller: a warp alone would leave out pixels.
    blur = max(0.0, 0.4 * (1 / scale - 1))
    soft = cv2.GaussianBlur(head, (0, 0), blur) if blur else head
    area = (background.shape[1], background.shape[0])
    warped = cv2.warpAffine(soft, turn, area, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    mask = np.zeros(background.shape[:2], np.float32)
    axes = (round(0.95 * size), round(1.15 * size))
    middle = (round(center[0]), round(center[1] - 0.1 * size))
    cv2.ellipse(mask, middle, axes, -tilt, 0, 360, 1.0, -1)
    cover = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.06 * size))[:, :, None]
    scene = background * (1 - cover) + np.clip(warped * light, 0, 255) * cover
    corner = (round(center[0] - size / 2), round(center[1] - size / 2))
    return scene.astype(np.uint8), (*corner, size, size)


def make_scenes(heads: Sequence[tuple[Frame, Box]]) -> Iterator[Scene]:
    """Yield scenes in which size, tilt and light vary one at a time, then empty ones."""
    places = backgrounds()
    generator = np.random.default_rng(1)
    for head, face in heads:
        for background in places.values():

            def scene(
                kind: str,
                value: str,
                size: int = 96,
                tilt: float = 0,
                light: float = 1,
                head: Frame = head,
                face: Box = face,
                background: Frame = background,
            ) -> Scene:
                frame, box = paste(background, head, face, size, tilt, light, generator.random())
                return Scene(frame, box, kind, value)

            yield from (scene("size", f"{size} px", size=size) for size in SIZES)
            yield from (scene("tilt", f"{tilt:+d} deg", tilt=tilt) for tilt in TILTS)
            yield from (scene("light", name, light=light) for name, light in LIGHTS.items())
    for name, background in places.items():
        for flipped in (background, background[:, ::-1], background[::-1]):
            yield Scene(np.ascontiguousarray(flipped), None, "empty", name)


def overlap(one: Box, other: Box) -> float:
    """Return intersection over union of two boxes."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(0, width) * max(0, height)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def evaluate_scenes(detector: FaceDetector, scenes: Sequence[Scene]) -> dict[str, object]:
    """Return recall for each kind of scene and value, and false positives."""
    found: dict[str, dict[str, list[bool]]] = {}
    wrong = 0
    for scene in scenes:
        boxes = [face.box for face in detector.detect(scene.frame_bgr)]
        hits = [
            box for box in boxes if scene.face is not None and overlap(box, scene.face) >= OVERLAP
        ]
        wrong += len(boxes) - len(hits[:1])
        if scene.face is not None:
            found.setdefault(scene.kind, {}).setdefault(scene.value, []).append(bool(hits))
    every = [hit for values in found.values() for hits in values.values() for hit in hits]
    return {
        "recall": round(float(np.mean(every)), 4),
        "recall_by": {
            kind: {value: round(float(np.mean(hits)), 4) for value, hits in values.items()}
            for kind, values in found.items()
        },
        "false_positives": wrong,
        "false_positives_per_100_scenes": round(100 * wrong / len(scenes), 2),
        "scenes": len(scenes),
        "faces": len(every),
    }


class Cascade:
    """One of OpenCV's frontal cascades with settings of its own, as the sweep compares them."""

    def __init__(self, name: str, scale_factor: float, min_neighbors: int) -> None:
        """Load the cascade of that name."""
        folder = Path(cv2.__file__).parent / "data"
        self._cascade = cv2.CascadeClassifier(str(folder / f"haarcascade_frontalface_{name}.xml"))
        self._scale_factor = scale_factor
        self._min_neighbors = min_neighbors

    def detect(self, frame_bgr: Frame) -> list[Face]:
        """Find the faces of a (H, W, 3) uint8 BGR frame."""
        boxes = self._cascade.detectMultiScale(
            to_gray(frame_bgr),
            scaleFactor=self._scale_factor,
            minNeighbors=self._min_neighbors,
            minSize=(SMALLEST, SMALLEST),
        )
        return [Face((int(x), int(y), int(w), int(h)), None) for x, y, w, h in boxes]


def sweep(scenes: Sequence[Scene]) -> Iterator[dict[str, object]]:
    """Yield what each cascade and setting finds, and the processor time of a scene."""
    for name, factor, neighbors in itertools.product(CASCADES, SCALE_FACTORS, MIN_NEIGHBORS):
        start = time.process_time()
        result = evaluate_scenes(Cascade(name, factor, neighbors), scenes)
        yield {
            "cascade": name,
            "scale_factor": factor,
            "min_neighbors": neighbors,
            "recall": result["recall"],
            "false_positives": result["false_positives"],
            "processor_ms": round((time.process_time() - start) * 1000 / len(scenes), 1),
        }


def print_sweep(rows: Sequence[dict[str, object]]) -> None:
    """Print what `sweep` yields."""
    print("cascade   scale factor  neighbours  recall  false positives  ms of processor time")
    for row in rows:
        print(
            f"{row['cascade']:<10}{row['scale_factor']:>12}{row['min_neighbors']:>12}"
            f"{row['recall']:>8.1%}{row['false_positives']:>17}{row['processor_ms']:>22}"
        )


def load_heads(folder: Path | None, count: int) -> list[tuple[Frame, Box]]:
    """Return the portrait, or faces of a folder whose pictures are faces and nothing else."""
    if folder is None:
        return [(read_image(PORTRAIT), PORTRAIT_FACE)]
    files = sorted(folder.rglob("*.jpg"))
    chosen = files[:: max(1, len(files) // count)][:count]
    heads = []
    for file in chosen:
        head = read_image(file)
        side = min(head.shape[:2])
        heads.append((head, (round(0.1 * side), round(0.1 * side), *(round(0.8 * side),) * 2)))
    return heads


def open_all(yunet: Path | None, others: Sequence[Path], low: bool) -> dict[str, FaceDetector]:
    """Open the detectors that are compared.

    Args:
        yunet: YuNet's ONNX file, or None.
        others: Networks of this project's contract, with metadata or without.
        low: Whether also what they hardly take for a face is wanted, for whole curves.
    """
    least: dict[str, Any] = {"min_score": LEAST_SCORE, "min_face": 1} if low else {}
    found: dict[str, FaceDetector] = {"face": OnnxDetector(**least)}
    for file in others:
        if file.stem in found:
            raise click.UsageError(f"expected networks of other names than {file.stem}; rename it")
        found[file.stem] = OnnxDetector(described(file), **least)
    try:
        found["haar"] = open_detector("haar")
    except DetectorError as error:
        click.echo(error.message, err=True)
    if yunet is not None:
        found["yunet"] = YuNetDetector(yunet, **least)
    return found


def described(path: Path) -> Path:
    """Return a detector's file, or a copy of one without metadata that has some."""
    import onnx

    model = onnx.load(path)
    if model.metadata_props:
        return path
    onnx.helper.set_model_props(model, DetectorSpec(threshold=0.65).to_metadata())
    copy = Path(tempfile.mkdtemp()) / path.name
    onnx.save_model(model, copy)
    return copy


def evaluate_pictures(
    detectors: Mapping[str, FaceDetector], pictures: Sequence[Picture]
) -> dict[str, dict[str, Any]]:
    """Search pictures with all detectors in turns, and return what each finds in what time.

    Returns:
        By detector: recall and false boxes at its default threshold and at others, its whole curve,
        and the time of a picture.
    """
    found_by: dict[str, list[Any]] = {name: [] for name in detectors}
    times_s: dict[str, list[float]] = {name: [] for name in detectors}
    for picture in pictures:
        frame = picture.pixels()
        for name, detector in detectors.items():
            began = time.perf_counter()
            faces = detector.detect(frame)
            times_s[name].append(time.perf_counter() - began)
            boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            scores = np.array([face.score for face in faces], np.float32)
            found_by[name].append((boxes, scores))
    return {
        name: {
            **_outcome(pictures, found_by[name], _threshold(detector)),
            "median_ms": round(1000 * statistics.median(times_s[name]), 2),
        }
        for name, detector in detectors.items()
    }


def _threshold(detector: FaceDetector) -> float:
    if isinstance(detector, OnnxDetector):
        return detector.spec.threshold
    return 0.7 if isinstance(detector, YuNetDetector) else 0.0


def _outcome(
    pictures: Sequence[Picture], found_by: Sequence[Any], threshold: float
) -> dict[str, Any]:
    waiting = iter(found_by)
    outcome = evaluate(pictures, lambda frame: next(waiting))
    precision, recall = outcome.precision_recall()
    # A point for each hundredth of recall that it reaches.
    chosen = [int(np.argmax(recall >= at)) for at in np.arange(0.01, 1, 0.01) if recall[-1] >= at]

    def at(threshold: float) -> dict[str, Any]:
        empty, elsewhere = outcome.false(threshold)
        return {
            "threshold": round(threshold, 4),
            "recall": round(outcome.recall(threshold), 4),
            "recall_from_24_px": round(outcome.recall(threshold, 24), 4),
            "recall_by_side": {
                f"{low:g}": round(outcome.recall(threshold, low, high), 4)
                for low, high in itertools.pairwise(SIDES)
            },
            "false_in_empty": empty,
            "false_elsewhere": elsewhere,
        }

    return {
        "faces": len(outcome.sides),
        "empty_pictures": outcome.empty,
        "average_precision": round(outcome.average_precision(), 4),
        "default": at(threshold),
        "by_false_boxes": [at(outcome.threshold_for(count)) for count in FALSE_BOXES],
        "curve": [[round(float(recall[k]), 4), round(float(precision[k]), 4)] for k in chosen],
    }


def time_parts(detector: OnnxDetector, rounds: int = 30) -> dict[str, float]:
    """Return the median time of each part of a picture with four faces, milliseconds."""
    portrait = read_image(PORTRAIT)
    frame = np.tile(resize(portrait, (480, 640)), (2, 2, 1))
    encoded = cv2.imencode(".jpg", frame)[1].tobytes()
    classifier = Classifier(detector=detector, threads=1)
    spec = detector.spec
    small = shrink(frame, spec.side / max(frame.shape[:2]))
    image = to_input(small, max(spec.strides))
    maps = detector.maps(image)
    found = decode(maps, spec.strides, spec.threshold)
    faces = detector.detect(frame)
    batch = classifier.prepare(frame, faces)
    parts: dict[str, Callable[[], object]] = {
        "read": lambda: cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR),
        "resize": lambda: shrink(frame, spec.side / max(frame.shape[:2])),
        "to floats": lambda: to_input(small, max(spec.strides)),
        "network": lambda: detector.maps(image),
        "decode": lambda: decode(maps, spec.strides, spec.threshold),
        "suppress": lambda: suppress(found.boxes, found.scores, spec.overlap),
        "crop": lambda: classifier.prepare(frame, faces),
        "emotion": lambda: classifier.predict(batch),
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, run in parts.items():
            began = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - began))
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


@click.command()
@click.option("--detector-model", type=click.Path(path_type=Path), help="YuNet's ONNX file.")
@click.option(
    "--other",
    "others",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Another network of this project's contract; may be repeated.",
)
@click.option(
    "--pictures",
    "pictures_path",
    type=click.Path(path_type=Path, exists=True),
    help="Zip of pictures with boxes.csv, as fer-train detector takes them, to evaluate on.",
)
@click.option("--turned", is_flag=True, help="Turn the pictures with one face too; takes long.")
@click.option("--faces", type=click.Path(path_type=Path), help="Folder of face pictures.")
@click.option("--count", default=40, show_default=True, help="Faces taken from the folder.")
@click.option("--sweep", "sweeps", is_flag=True, help="Compare cascades; takes ten minutes.")
@json_option
def main(
    detector_model: Path | None,
    others: tuple[Path, ...],
    pictures_path: Path | None,
    turned: bool,
    faces: Path | None,
    count: int,
    sweeps: bool,
    json_path: Path | None,
) -> None:
    """Print recall and false positives of each detector."""
    scenes = list(make_scenes(load_heads(faces, count)))
    if sweeps:
        rows = list(sweep(scenes))
        print_sweep(rows)
        write_results(json_path, {"cascades": rows, "scenes": len(scenes)})
        return
    detectors = open_all(detector_model, others, low=False)
    results = {name: evaluate_scenes(detector, scenes) for name, detector in detectors.items()}
    content: dict[str, Any] = {"detectors": results, "parts_ms": time_parts(OnnxDetector())}
    if pictures_path is not None:
        pictures = read_pictures([pictures_path])
        content["pictures"] = evaluate_pictures(
            open_all(detector_model, others, low=True), pictures
        )
        if turned:
            for name, detector in detectors.items():
                content["pictures"][name]["turned"] = _turned(detector, pictures)
    _print_scenes(results)
    print("parts, ms: " + ", ".join(f"{name} {ms}" for name, ms in content["parts_ms"].items()))
    for name, found in content.get("pictures", {}).items():
        print(f"{name}: AP {found['average_precision']:.4f}, {found['median_ms']} ms a picture")
        for row in (found["default"], *found["by_false_boxes"]):
            print(f"    {row}")
        print(f"    turned {found.get('turned', '-')}")
    write_results(json_path, content)


def _turned(detector: FaceDetector, pictures: Sequence[Picture]) -> dict[str, float]:
    def find(frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        found = detector.detect(frame)
        boxes = np.array([face.box for face in found], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return boxes, np.ones(len(found), np.float32)

    kept = evaluate_turned(pictures, find, 0.5, ANGLES)
    return {f"{angle:g}": round(share, 4) for angle, (_, share) in kept.items()}


def _print_scenes(results: Mapping[str, Mapping[str, Any]]) -> None:
    lines: dict[str, list[str]] = {"recall, all": []}
    for result in results.values():
        lines["recall, all"].append(f"{result['recall']:.1%}")
        for kind, values in result["recall_by"].items():
            for value, recall in values.items():
                lines.setdefault(f"recall, {kind} {value}", []).append(f"{recall:.1%}")
        wrong = f"{result['false_positives']} in {result['scenes']}"
        lines.setdefault("false positives, scenes", []).append(wrong)
    print(f"{'':<28}" + "".join(f"{name:>14}" for name in results))
    for name, cells in lines.items():
        print(f"{name:<28}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
