"""A trained fold -> the files that are shipped: fp32, int8 and fp16, their facts and cards."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fer_edge.errors import ExportError, RunError
from fer_train.data.load import Dataset
from fer_train.export.cards import write_cards
from fer_train.export.convert import best_fold, export_best, gate_sample, update_digests
from fer_train.export.facts import (
    judging_facts,
    read_facts,
    stage_facts,
    training_facts,
    write_facts,
)
from fer_train.export.quantize import convert_fp16, quantize_int8
from fer_train.network.averaging import answer, average
from fer_train.network.models import augmentation
from fer_train.run.folder import Run, write_text
from fer_train.run.metrics import classification_metrics
from fer_train.run.plan import load_images, load_run_images


@dataclasses.dataclass(frozen=True)
class Earlier:
    """What a model went on from.

    Attributes:
        stages: Its trainings, oldest first, as `stage_facts` gives them.
        logs: The text of each training's ``history.csv``.
        weights: The Keras file that came of them.
    """

    stages: list[dict[str, Any]]
    logs: list[str]
    weights: Path


def publish(
    run: Run,
    model: str,
    folder: Path,
    *,
    fold: int | None = None,
    data: str | None = None,
    int8: bool = False,
    fp16: bool = False,
    reduce_range: bool = False,
    keras_file: bool = False,
    earlier: Sequence[Run | Path] = (),
    averaged: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> list[str]:
    """Export a fold in all forms that are asked for, judge each, and write MODELS.md anew.

    Args:
        run: The run.
        model: Name of the model.
        folder: Where the files go.
        fold: Index of the fold; None chooses by `fer_train.export.publish.best_fold`.
        data: Where the run's data set lies on this machine.
        int8: Write ``MODEL.int8.onnx`` too.
        fp16: Write ``MODEL.fp16.onnx`` too.
        reduce_range: See `quantize_int8`.
        keras_file: Keep ``MODEL.keras`` too.
        earlier: What the model went on from, oldest first: runs, or exported ``MODEL.keras`` with
            their facts and logs beside them. Their logs are kept too.
        averaged: Export the mean of this fold's weights and the earlier ones'.
        report: Called with a line about each file.

    Returns:
        Why files were refused that were asked for; the others are written.

    Raises:
        RunError: The fold or an earlier one is not done, there is nothing to average it with, the
            data set is another, or a file cannot be read or written.
        DataError: The data set cannot be read.
        ExportError: The fp32 file was refused.
    """
    if averaged and not earlier:
        raise RunError("Expected --earlier with --average, received nothing to average with")
    index = best_fold(run, model) if fold is None else fold
    # Read now: the export may write where the earlier files lie.
    before = [
        _earlier_run(source, model, index)
        if isinstance(source, Run)
        else _earlier_file(source, model)
        for source in earlier
    ]
    stages = [stage for one in before for stage in one.stages]
    logs = [log for one in before for log in one.logs]
    facts = training_facts(run, model, index) | {"earlier": stages}
    training, held, judges = _images(run, index, data)
    options: dict[str, Any] = {"fold": index, "keras_file": keras_file, "report": report}
    if averaged:
        facts["averaged"] = np.cumsum([len(one.stages) for one in before]).tolist()
        own = run.fold_folder(model, index) / "model.keras"
        recipe = run.recipes[model]
        change = None
        if recipe.augmentation or recipe.erasing:
            change = augmentation(recipe.augmentation, recipe.erasing, run.protocol.seed % 2**32)
        net = average([*(one.weights for one in before), own], training.images, change)
        scores = classification_metrics(held.labels, answer(net, held.images))
        with TemporaryDirectory() as temporary:
            mean = Path(temporary) / "model.keras"
            net.save(mean)
            parent = export_best(run, model, folder, averaged=(mean, scores), **options)
    else:
        parent = export_best(run, model, folder, **options)
    for number, log in enumerate(logs, 1):
        write_text(folder / f"{model}.stage-{number}.history.csv", log)
    refused = []

    def ship(path: Path, extra: dict[str, Any]) -> None:
        measured = judging_facts(path, judges)
        write_facts(path, {**facts, **measured, **extra})
        report(
            f"{path}: top-1 {measured['single']['accuracy']:.2%}, mirrored "
            f"{measured['mirrored']['accuracy']:.2%} on {measured['judged_on']}"
        )

    ship(parent, {})
    for wanted, precision in ((int8, "int8"), (fp16, "fp16")):
        path = folder / f"{model}.{precision}.onnx"
        if not wanted:
            continue
        try:
            if precision == "fp16":
                difference = convert_fp16(parent, path, gate_sample())
                ship(path, {"fp16": {"difference": difference}})
                continue
            made = quantize_int8(
                parent,
                path,
                training.images,
                judges.images,
                judges.labels,
                reduce_range=reduce_range,
            )
        except ExportError as error:
            refused.append(error.message)
            continue
        extra = dataclasses.asdict(made) | {"path": path.name, "calibration": str(made.calibration)}
        ship(path, {"int8": extra})
    update_digests(folder)
    write_cards(folder)
    return refused


def _earlier_run(run: Run, model: str, fold: int) -> Earlier:
    folder = run.fold_folder(model, fold)
    stage = stage_facts(training_facts(run, model, fold), run.score(model, fold)["accuracy"])
    return Earlier([stage], [_read_log(folder / "history.csv")], folder / "model.keras")


def _earlier_file(path: Path, model: str) -> Earlier:
    facts = read_facts(path)
    if path.suffix != ".keras" or facts.get("model") != model:
        raise RunError(f"Expected a run or an exported {model}.keras, received {path}")
    stages = [*facts["earlier"], stage_facts(facts, facts["single"]["accuracy"])]
    names = [f"{model}.stage-{number}.history.csv" for number in range(1, len(stages))]
    logs = [_read_log(path.with_name(name)) for name in (*names, f"{model}.history.csv")]
    return Earlier(stages, logs, path)


def _read_log(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise RunError(f"Expected the log of an earlier training at {path}: {error}") from error


def _images(run: Run, index: int, data: str | None) -> tuple[Dataset, Dataset, Dataset]:
    """Return what the fold trained on, what judges the fold, and what judges the files.

    PublicTest judges the files where no fold has seen it, else the fold's own held-out images.
    """
    dataset = load_run_images(run, data)
    fold = run.folds[index]
    held = judges = dataset.subset(fold.test)
    if run.protocol.pool == "training":
        protocol = dataclasses.replace(run.protocol, pool="all")
        whole = load_images(dataclasses.replace(protocol, data=data) if data else protocol)
        untouched = whole.usage == "PublicTest"
        if untouched.any():
            judges = whole.subset(untouched)
    return dataset.subset(fold.train), held, judges
