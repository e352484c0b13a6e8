"""A detector's training from pictures to metrics, in a run folder, step by step.

    RUN/
    ├── config.json         what it is made of: settings, digests of the data and files; versions
    ├── lock                held by the process that trains
    ├── boxes.csv           the labels that are trained on, a teacher's among them
    ├── images.csv          which pictures hold no face, and how often the others are drawn
    ├── decoys.csv          what was taken for a face in pictures without one
    ├── checkpoint-NNN.npz  all that the next step depends on, after NNN steps
    ├── history.csv         losses, a row every twenty seconds or so
    ├── model.keras         the running mean of the weights, float32
    ├── curve.csv           precision and recall on the held-out pictures
    ├── examples/           some of these pictures with boxes
    ├── sample.npz          pictures on which an exported file is compared with the model
    └── metrics.json        scores; written last: the training is done

Every step leaves a file and begins where it is missing, so that a killed run goes on.
"""

import csv
import gc
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_edge import __version__
from fer_edge.contract import DetectorSpec
from fer_edge.errors import DataError, DivergedError, RunError
from fer_edge.inference.locate import DEFAULT_DETECTOR
from fer_train.data.duplicates import duplicate_groups
from fer_train.data.load import Dataset, load_dataset
from fer_train.detection import labelling
from fer_train.detection.evaluation import OVERLAP as MATCH_OVERLAP
from fer_train.detection.export import export_detector
from fer_train.detection.finders import (
    OVERLAP,
    SIDE,
    SearchFn,
    network_finder,
    teacher_finder,
)
from fer_train.detection.mining import find_decoys, read_decoys, write_decoys
from fer_train.detection.network import (
    STRIDES,
    build_detector,
    load_weights,
    named_weights,
    save_weights,
)
from fer_train.detection.pictures import (
    FACE,
    Picture,
    check_trainable,
    in_threads,
    read_labels,
    read_pictures,
)
from fer_train.detection.results import evaluate_detector
from fer_train.detection.settings import DetectorRecipe
from fer_train.detection.tables import BOXES, IMAGES, POINT_COLUMNS
from fer_train.detection.tiles import PictureTable, TileMaker
from fer_train.detection.training import DetectorTraining, train
from fer_train.export.cards import write_cards
from fer_train.export.facts import write_facts
from fer_train.export.publish import update_digests
from fer_train.network._keras import keras
from fer_train.network.device import choose_precision, describe_device
from fer_train.run.folder import (
    CONFIG,
    DONE,
    FORMAT,
    HISTORY,
    KERAS_FILE,
    delete_half_written,
    locked_run,
    read_arrays,
    read_curves,
    read_json,
    write_arrays,
    write_atomic,
    write_json,
    write_text,
)

TASK = "face-detection"
_DECOYS = "decoys.csv"
_CHECKPOINTS_KEPT = 2
_THUMBNAIL = 48
_SAMPLE = "sample.npz"
_SAMPLES, _SAMPLE_SIDE = 4, 320

Report = Callable[[str], None]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Sources:
    """Where a detector's data and beginnings lie.

    Attributes:
        data: Folders or zips of pictures; see `read_pictures`.
        limit: Most pictures used, or None.
        held_out: Pictures to evaluate on; None holds out a share of the data.
        weights: Weights to begin with: .npz or .keras.
        teacher: A YuNet file.
        crops: FER-2013, whose images serve as near faces.
    """

    data: tuple[Path, ...]
    limit: int | None = None
    held_out: Path | None = None
    weights: Path | None = None
    teacher: Path | None = None
    crops: str | None = None


def train_detector(
    folder: Path, recipe: DetectorRecipe, sources: Sources, report: Report
) -> dict[str, Any]:
    """Train a detector in its folder, from where it was, and evaluate it.

    Args:
        folder: The run folder.
        recipe: Its settings.
        sources: What it is made from.
        report: Called with a line about each step.

    Returns:
        What metrics.json holds.

    Raises:
        DataError: The data are not what is expected; nothing was written.
        DetectorError: The teacher cannot be used.
        RunError: The folder is of another training or in use, or the weights do not fit.
    """
    return _Trainer(folder, recipe, sources, report).train()


class _Trainer:
    def __init__(
        self, folder: Path, recipe: DetectorRecipe, sources: Sources, report: Report
    ) -> None:
        self.folder, self.recipe, self.sources, self.report = folder, recipe, sources, report
        self.weights = read_weights(sources.weights) if sources.weights else None
        if recipe.training.mine_at == 0 and self.weights is None:
            raise DataError(
                "Expected --weights with --mine-at 0: an untrained network takes nothing for a "
                "face; give --mine-at 0.5"
            )
        self.teacher = teacher_finder(sources.teacher) if sources.teacher else None
        self.pictures = read_pictures(
            sources.data, sources.limit, silent_is_empty=self.teacher is None
        )
        if self.teacher is None:
            check_trainable(self.pictures)
        self.crops: Dataset | None = load_dataset(sources.crops) if sources.crops else None
        self.held_out = read_pictures([sources.held_out]) if sources.held_out else None
        self.precision = choose_precision(recipe.training.precision)

    def train(self) -> dict[str, Any]:
        with locked_run(self.folder):
            delete_half_written(self.folder)
            self._plan()
            if not (self.folder / DONE).is_file():
                training, held = self._split(self._labelled())
                weights = self._train_steps(training)
                self._finish(weights, held)
            return dict(read_json(self.folder / DONE))

    def _plan(self) -> None:
        """Write config.json, or check that the one that is there would do the same."""
        config: dict[str, Any] = {
            "format": FORMAT,
            "task": TASK,
            "package_version": __version__,
            "data": [path.name for path in self.sources.data],
            "digests": self._digests(),
            "recipe": self.recipe.values(),
        }
        path = self.folder / CONFIG
        if not path.is_file():
            write_json(path, config)
            return
        there = read_json(path)
        if there.get("task") != TASK or there.get("format") != FORMAT:
            raise RunError(
                f"Expected an empty folder or a detector's run in {self.folder}, received another "
                "training's; choose another --run"
            )
        differences = [
            f"{name} {there['recipe'].get(name)!r} there, {value!r} asked for"
            for name, value in config["recipe"].items()
            if there["recipe"].get(name) != value
        ]
        differences += [
            f"other {name}"
            for name, digest in config["digests"].items()
            if there["digests"].get(name) != digest
        ]
        if differences:
            raise RunError(
                f"{self.folder} holds a run of other settings ({'; '.join(differences)}); give the "
                "same flags or choose another --run"
            )

    def _digests(self) -> dict[str, str | None]:
        sources = self.sources
        return {
            "data": _digest(self.pictures),
            "held_out": _digest(self.held_out) if self.held_out else None,
            "weights": _file_digest(sources.weights),
            "teacher": _file_digest(sources.teacher),
            "crops": self.crops.digest if self.crops else None,
        }

    def _labelled(self) -> list[Picture]:
        """Return the pictures with the labels that are trained on, those of a teacher too."""
        if not (self.folder / BOXES).is_file():
            pictures = self.pictures
            finders = [find for find in (self._network(self.weights), self.teacher) if find]
            if self.teacher:
                self.report(f"the teacher looks at {len(pictures)} pictures")
                pictures = labelling.label(pictures, self.teacher)
                training, held = self._split(pictures)
                if len(finders) == 2:
                    self.report("network and teacher look at what is doubtful")
                    training = labelling.review(training, finders)
                pictures = training + (held if self.held_out is None else [])
            if self.crops:
                self.report(f"looking at {len(self.crops)} crops")
                pictures = pictures + labelling.crops(
                    self.crops, finders, self.recipe.training.seed
                )
            boxes, images = label_tables(pictures)
            write_text(self.folder / IMAGES, images)
            write_text(self.folder / BOXES, boxes)
        known = {picture.name: picture.encoded for picture in self.pictures}
        if self.crops:
            known |= labelling.crops_by_name(self.crops)
        return [picture for picture in read_labels(self.folder, known) if picture.labelled]

    def _split(self, pictures: list[Picture]) -> tuple[list[Picture], list[Picture]]:
        """Return the pictures that train and those held out, copies on one side."""
        if self.held_out is not None:
            return pictures, self.held_out
        own = [
            picture
            for picture in pictures
            if picture.labelled and not picture.name.startswith(labelling.CROP)
        ]
        groups = duplicate_groups(np.array(in_threads(_thumbnail, own)))
        empty = np.array([picture.empty for picture in own])
        rng = np.random.default_rng(self.recipe.training.seed)
        kept_back: set[int] = set()
        # The same share of those with a face and of those without.
        for kind in (np.unique(groups[empty]), np.setdiff1d(groups, groups[empty])):
            count = round(self.recipe.training.inner * len(kind))
            kept_back.update(rng.permutation(kind)[:count].tolist())
        held = {
            picture.name
            for picture, group in zip(own, groups.tolist(), strict=True)
            if group in kept_back
        }
        return (
            [picture for picture in pictures if picture.name not in held],
            [picture for picture in pictures if picture.name in held],
        )

    def _network(self, weights: Arrays | None) -> SearchFn | None:
        return network_finder(weights) if weights else None

    def _train_steps(self, pictures: Sequence[Picture]) -> Arrays:
        """Train to the end, from the last checkpoint if there is one; return the mean weights."""
        settings = self.recipe.training
        mine = round(settings.mine_at * settings.steps) if settings.mine_at < 1 else None
        if mine == 0 and settings.mine_at:
            # An untrained network takes nothing for a face.
            mine = 1
        state, history = self._last_checkpoint()
        done = int(history[-1]["step"]) if history else 0
        means = self.weights
        training = None
        while training is None or done < settings.steps:
            mined = mine is not None and done >= mine
            until = settings.steps if mined or mine is None else mine
            # What the stage before has left in memory.
            training = None
            gc.collect()
            keras.backend.clear_session()
            keras.utils.set_random_seed(settings.seed)
            keras.config.set_dtype_policy(self.precision)
            net = build_detector()
            if self.weights:
                load_weights(net, self.weights)
            if state:
                means = _means(net, state)
            decoys = self._decoys(pictures, means) if mined else []
            table = PictureTable(pictures, decoys, self.recipe.tiles.longest)
            self.report(
                f"{len(pictures)} pictures, {table.faces.count} faces, {table.empty.shape[0]} "
                f"pictures without a face, {table.decoys.count} decoys; {self.device}"
            )
            tiles = TileMaker(table, self.recipe.tiles, settings.batch, settings.seed)
            training = DetectorTraining(net, tiles, self.recipe)
            if state:
                training.restore(state)
            try:
                train(training, until, partial(self._keep, training, history))
            except DivergedError:
                if settings.precision != "auto" or self.precision == "float32":
                    raise
                self.report(f"the loss is not a number in {self.precision}; it goes on in float32")
                self.precision = "float32"
            state, done = training.state(), training.done
        return training.mean_weights()

    @property
    def device(self) -> str:
        """Back end, devices and precision."""
        return f"{describe_device()}, {self.precision}"

    def _decoys(self, pictures: Sequence[Picture], weights: Arrays | None) -> list[Any]:
        path = self.folder / _DECOYS
        if not path.is_file():
            finders = [find for find in (self._network(weights), self.teacher) if find]
            self.report("searching the pictures without a face for what looks like one")
            write_decoys(path, [decoy for decoy, _ in find_decoys(pictures, finders)])
        return read_decoys(path)

    def _keep(
        self, training: DetectorTraining, history: list[dict[str, float]], row: dict[str, float]
    ) -> None:
        history.append(row)
        facts = np.frombuffer(json.dumps(history).encode(), np.uint8)
        write_arrays(
            self.folder / f"checkpoint-{int(row['step']):07d}.npz",
            training.state() | {"history": facts},
        )
        for path in self._checkpoints()[:-_CHECKPOINTS_KEPT]:
            path.unlink()
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_text(self.folder / HISTORY, buffer.getvalue())
        losses = ", ".join(f"{name} {row[name]:.4f}" for name in ("scores", "boxes", "points"))
        self.report(f"step {int(row['step'])} of {self.recipe.training.steps}: {losses}")

    def _checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*.npz"))

    def _last_checkpoint(self) -> tuple[Arrays, list[dict[str, float]]]:
        """Return the last checkpoint that is whole, and its history."""
        for path in reversed(self._checkpoints()):
            try:
                state = read_arrays(path)
            except RunError as error:
                self.report(f"{error.message}; going on from the one before")
                continue
            return state, list(json.loads(state.pop("history").tobytes()))
        return {}, []

    def _finish(self, weights: Arrays, held: Sequence[Picture]) -> None:
        """Write the model, evaluate it, and mark the training as done."""
        keras.backend.clear_session()
        keras.config.set_dtype_policy("float32")
        net = build_detector()
        load_weights(net, weights)
        write_atomic(self.folder / KERAS_FILE, net.save)
        self.report(f"evaluating on {len(held)} pictures")
        history = read_curves(self.folder / HISTORY)
        facts = {
            "task": TASK,
            "steps": self.recipe.training.steps,
            "tiles": self.recipe.training.steps * self.recipe.training.batch,
            "training_s": round(float(history["seconds"].sum()), 1),
            "parameters": net.count_params(),
            "device": describe_device(),
            "dtype_policy": choose_precision(self.recipe.training.precision),
            "evaluated_on": self.sources.held_out.name
            if self.sources.held_out
            else "a held-out share",
        }
        faces = any((picture.faces[:, -1] == FACE).any() for picture in held)
        metrics = evaluate_detector(network_finder(weights), held, self.folder) if faces else {}
        write_arrays(self.folder / _SAMPLE, {"pictures": _sample(self.pictures)})
        write_json(self.folder / DONE, facts | metrics)
        for path in self._checkpoints():
            path.unlink()


def export_run(folder: Path, target: Path, licence: str = "") -> Path:
    """Write the detector of a run that is done as ``face.onnx`` and ``face.keras``.

    What is there is replaced. Facts, digests and the card are written too, as of other models.

    Args:
        folder: The run folder.
        target: The folder of the file.
        licence: Of the weights.

    Returns:
        The file.

    Raises:
        ExportError: It predicts otherwise than the Keras model does.
        RunError: A file of the run is damaged, or the file cannot be written.
    """
    config, metrics = read_json(folder / CONFIG), read_json(folder / DONE)
    keras.config.set_dtype_policy("float32")
    net = build_detector()
    load_weights(net, read_weights(folder / KERAS_FILE))
    spec = DetectorSpec(
        model="face",
        dataset=", ".join(config["data"]),
        dataset_digest=config["digests"]["data"],
        licence=licence,
        threshold=metrics.get("threshold", DetectorSpec.threshold),
        overlap=OVERLAP,
        side=SIDE,
        strides=STRIDES,
    )
    path = target / DEFAULT_DETECTOR
    sample = read_arrays(folder / _SAMPLE)["pictures"].astype(np.float32)
    difference = export_detector(net, spec, path, sample)
    write_atomic(path.with_suffix(".keras"), net.save)
    if "at" in metrics:
        write_facts(path, _facts(config, metrics) | {"difference": asdict(difference)})
        write_cards(target)
    update_digests(target)
    return path


def _facts(config: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    """Return what the card of a detector says."""
    recipe = config["recipe"]
    at = next(row for row in metrics["at"] if row["threshold"] == metrics["threshold"])
    sides = {
        f"from {size['from']:g}"
        + (f" to {size['below']:g}" if size["below"] else "")
        + " pixels": size["recall"]
        for size in metrics["sizes"]
        if size["recall"] is not None
    }
    turned = {
        f"{turn['degrees']:g}": turn["of_upright"]
        for turn in metrics["turned"]
        if turn["degrees"] and turn["of_upright"] is not None
    }
    return {
        "model": "face",
        "parameters": metrics["parameters"],
        "earlier": [],
        "settings": f"{recipe['steps']:,} steps of {recipe['batch']} tiles of {recipe['size']} "
        f"pixels, AdamW at {recipe['rate']:g} falling by a cosine, {metrics['dtype_policy']}",
        "tiles": metrics["tiles"],
        "training_s": metrics["training_s"],
        "evaluated_on": f"{metrics['pictures']:,} pictures with {metrics['faces']:,} faces "
        f"({metrics['evaluated_on']}), at an overlap of {MATCH_OVERLAP:g}, at most {SIDE} pixels",
        "evaluation": {
            "recall": at["recall"],
            "by_side": sides,
            "false": f"{at['false_empty']} in the {metrics['empty']} pictures without a face, "
            f"{at['false_elsewhere']} elsewhere",
            "turned": turned,
            "average_precision": metrics["average_precision"],
        },
    }


def _sample(pictures: Sequence[Picture]) -> NDArray[np.uint8]:
    """Return pieces of some pictures, with faces if there are any: uint8 (N, H, W, 3)."""
    with_faces = [picture for picture in pictures if len(picture.faces)] or list(pictures)
    sample = np.full((_SAMPLES, _SAMPLE_SIDE, _SAMPLE_SIDE, 3), 114, np.uint8)
    for piece, picture in zip(sample, with_faces, strict=False):
        frame = picture.pixels()[:_SAMPLE_SIDE, :_SAMPLE_SIDE]
        piece[: frame.shape[0], : frame.shape[1]] = frame
    return sample


def _means(net: keras.Model, state: Arrays) -> Arrays:
    names = [name for name, _ in named_weights(net)]
    return {name: state[f"mean_{number:03d}"] for number, name in enumerate(names)}


def _thumbnail(picture: Picture) -> NDArray[np.uint8]:
    gray = cv2.cvtColor(picture.pixels(), cv2.COLOR_BGR2GRAY)
    size = (_THUMBNAIL, _THUMBNAIL)
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)


def read_weights(path: Path) -> Arrays:
    """Read the weights of a detector: a .keras file, or an .npz by our names or the PyTorch ones.

    Raises:
        RunError: There is no such file, or it holds something else.
    """
    refusal = f"Expected a detector's weights (.npz or .keras), received {path}"
    if not path.is_file():
        raise RunError(f"{refusal}, which is not there")
    if path.suffix == ".keras":
        try:
            arrays = save_weights(keras.models.load_model(path, compile=False))
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
            raise RunError(f"{refusal}: {str(error).splitlines()[0]}") from error
    else:
        try:
            with np.load(path) as archive:
                arrays = dict(archive)
        except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise RunError(f"{refusal}: {error}") from error
    try:
        load_weights(build_detector(), arrays)
    except RunError as error:
        raise RunError(f"{refusal}: {error.message}") from error
    return arrays


def label_tables(pictures: Sequence[Picture]) -> tuple[str, str]:
    """Return the labels of pictures as the text of a ``boxes.csv`` and an ``images.csv``."""
    boxes, images = io.StringIO(), io.StringIO()
    rows = csv.writer(boxes, lineterminator="\n")
    rows.writerow(("file", "x", "y", "w", "h", *POINT_COLUMNS, "ignore", "by", "score"))
    facts = csv.writer(images, lineterminator="\n")
    facts.writerow(("file", "negative", "weight"))
    for picture in pictures:
        facts.writerow((picture.name, int(picture.empty), f"{picture.weight:g}"))
        for face, certainty in zip(picture.faces, picture.certainties, strict=True):
            x1, y1, x2, y2, *points = face[:-1].tolist()
            numbers = [f"{number:.2f}" for number in (x1, y1, x2 - x1, y2 - y1)]
            numbers += ["" if np.isnan(point) else f"{point:.2f}" for point in points]
            taught = ("teacher", f"{certainty:.3f}") if certainty < 1 else ("", "")
            rows.writerow((picture.name, *numbers, int(face[-1] != FACE), *taught))
    return boxes.getvalue(), images.getvalue()


def _digest(pictures: Sequence[Picture]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(f"{picture.name}\0{picture.empty}\0{picture.weight}\0".encode())
        digest.update(picture.faces.tobytes() + picture.certainties.tobytes())
        digest.update(hashlib.sha256(picture.encoded).digest())
    return digest.hexdigest()


def _file_digest(path: Path | None) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path else None
