"""A trained fold -> the files that are shipped: fp32, int8 and fp16, their facts and cards."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fer_edge.classifier import Classifier
from fer_edge.errors import ExportError, RunError
from fer_train.averaging import answer, average
from fer_train.cards import judging_facts, training_facts, write_cards, write_facts
from fer_train.data import Dataset
from fer_train.export import (
    best_fold,
    copy_file,
    export_best,
    file_digest,
    gate_sample,
    update_digests,
)
from fer_train.metrics import classification_metrics
from fer_train.quantize import convert_fp16, quantize_int8
from fer_train.runs import Run
from fer_train.schedule import load_images, load_run_images


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
    earlier: Sequence[Run] = (),
    averaged: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> list[str]:
    """Export a fold in all forms that are asked for, judge each, and write MODELS.md anew.

    Args:
        run: The run.
        model: Name of the model.
        folder: Where the files go.
        fold: Index of the fold; None chooses by `fer_train.export.best_fold`.
        data: Where the run's data set lies on this machine.
        int8: Write ``MODEL.int8.onnx`` too.
        fp16: Write ``MODEL.fp16.onnx`` too.
        reduce_range: See `quantize_int8`.
        keras_file: Keep ``MODEL.keras`` too.
        earlier: The runs that the model went on from, oldest first; their logs are kept too.
        averaged: Export the mean of this fold's weights and the earlier runs'.
        report: Called with a line about each file.

    Returns:
        Why files were refused that were asked for; the others are written.

    Raises:
        RunError: The fold is not done, there is nothing to average it with, the data set is
            another, or a file cannot be written.
        DataError: The data set cannot be read.
        ExportError: The fp32 file was refused.
    """
    if averaged and not earlier:
        raise RunError("Expected --earlier RUN with --average, received no run to average with")
    index = best_fold(run, model) if fold is None else fold
    facts = training_facts(run, model, index, earlier)
    training, held, judges = _images(run, index, data)
    options: dict[str, Any] = {"fold": index, "keras_file": keras_file}
    if averaged:
        facts["averaged"] = True
        sources = [stage.fold_folder(model, index) / "model.keras" for stage in (*earlier, run)]
        net = average(sources, training.images)
        scores = classification_metrics(held.labels, answer(net, held.images))
        with TemporaryDirectory() as temporary:
            mean = Path(temporary) / "model.keras"
            net.save(mean)
            parent = export_best(run, model, folder, averaged=(mean, scores), **options)
    else:
        parent = export_best(run, model, folder, **options)
    for path in outdated(parent):
        path.unlink()
        path.with_suffix(".json").unlink(missing_ok=True)
        report(f"{path}: removed, since it was made from an earlier {parent.name}")
    for number, before in enumerate(earlier, 1):
        log = before.fold_folder(model, index) / "history.csv"
        copy_file(log, folder / f"{model}.stage-{number}.history.csv")
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


def outdated(parent: Path) -> list[Path]:
    """Return the smaller forms beside an fp32 file that were made from another one."""
    digest = file_digest(parent)
    return [
        path
        for path in sorted(parent.parent.glob(f"{parent.stem}.*.onnx"))
        if Classifier(path, provider="cpu", detector="none").spec.parent != digest
    ]


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
