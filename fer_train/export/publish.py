"""A trained model -> the files that are shipped: fp32, int8 and fp16, their facts and cards.

Whatever writes an ONNX file goes through here, so that none is without its facts, its log, its
card and its digest.
"""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fer_edge.contract import Description
from fer_edge.errors import ExportError, RunError
from fer_train.export.cards import write_cards
from fer_train.export.convert import SCORES, export_file, file_digest, gate_sample
from fer_train.export.facts import log_files, read_facts, write_facts
from fer_train.export.held_out import evaluate_file, open_file
from fer_train.export.quantize import convert_fp16, count_parameters, quantize_int8
from fer_train.export.sources import SOURCE, Pictures, Source, read_log
from fer_train.network.averaging import average
from fer_train.network.models import augmentation, predict
from fer_train.run.folder import write_atomic, write_bytes, write_text
from fer_train.run.metrics import classification_metrics
from fer_train.run.votes import VOTE_SCORES

DIGESTS = "SHA256SUMS"

Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Forms:
    """What is written beside the fp32 file.

    Attributes:
        int8: ``NAME.int8.onnx``, if it is as good and much faster.
        fp16: ``NAME.fp16.onnx``.
        keras: ``NAME.keras``, and ``NAME.py`` with the code of a model of one's own.
        reduce_range: See `quantize_int8`.
        average: The mean of the model's weights and those it went on from takes their place.
    """

    int8: bool = False
    fp16: bool = False
    keras: bool = False
    reduce_range: bool = False
    average: bool = False


def free_folder(source: Source, folder: Path) -> Path:
    """Return the folder, or another one where exporting to it would lose another training's."""
    names = [f"{source.name}.onnx", f"{source.name}.*.onnx"]
    for path in (path for name in names for path in folder.glob(name)):
        try:
            found = read_facts(path)
        except RunError:
            found = {}
        if any(found.get(key) != source.facts.get(key) for key in (SOURCE, "fold")):
            return source.home
    return folder


def publish(
    source: Source,
    folder: Path,
    pictures: Pictures,
    forms: Forms = Forms(),
    *,
    report: Report = lambda text: None,
) -> list[str]:
    """Export a model in all forms that are asked for, evaluate each, and write MODELS.md anew.

    Args:
        source: The model.
        folder: Where the files go.
        pictures: What int8 is scaled by, and what the files are evaluated on.
        forms: What is written beside the fp32 file.
        report: Called with a line about each file.

    Returns:
        Why files were refused that were asked for; the others are written.

    Raises:
        RunError: There is nothing to average it with, or a file cannot be read or written.
        ExportError: The fp32 file was refused.
    """
    path = folder / f"{source.name}.onnx"
    code = source.recipe.code if source.recipe and forms.keras else ""
    code_file = path.with_suffix(".py")
    if code and code_file.exists() and code_file.read_bytes() != code.encode():
        raise RunError(
            f"Expected no other {code_file.name} in {folder}, where the model's own code goes; "
            "choose another --export-dir"
        )
    if not source.spec.prior:
        spec = dataclasses.replace(source.spec, prior=pictures.prior)
        source = dataclasses.replace(source, spec=spec)
    with TemporaryDirectory() as temporary:
        if forms.average:
            source = _averaged(source, pictures, Path(temporary) / "model.keras")
        before = file_digest(path) if path.is_file() else ""
        export_file(source.keras_file, source.spec, path, source.recipe)
        if forms.keras:
            _copy(source.keras_file, path.with_suffix(".keras"))
            if code:
                write_bytes(code_file, code.encode())
    if file_digest(path) != before:
        _remove_others(path, report)
    _write_logs(path, [*source.logs, source.log])
    _ship(path, source.facts, pictures, report)
    refused = []
    if forms.int8:
        refused += _quantize(path, folder, source.facts, pictures, forms.reduce_range, report)
    if forms.fp16:
        half = path.with_suffix(".fp16.onnx")
        try:
            difference = convert_fp16(path, half, gate_sample(open_file(path).spec))
            _ship(half, source.facts | {"fp16": {"difference": difference}}, pictures, report)
        except ExportError as error:
            refused.append(error.message)
    describe_folder(folder)
    return refused


def quantize_file(
    path: Path,
    folder: Path,
    pictures: Pictures,
    *,
    description: Description | None = None,
    reduce_range: bool = False,
    report: Report = lambda text: None,
) -> list[str]:
    """Write the int8 form of any ONNX classifier, with its facts, logs and card.

    Args:
        path: The fp32 file; what lies beside it of facts and logs goes along.
        folder: Where the int8 file goes.
        pictures: What it is scaled by, and what it is evaluated on.
        description: Of a file that does not describe itself.
        reduce_range: See `quantize_int8`.
        report: Called with a line about the file.

    Returns:
        Why it was refused; nothing is written then.

    Raises:
        ModelError: The file cannot be read.
        RunError: The folder has another file of that name, or a file cannot be read or written.
    """
    other = folder / path.name
    if other.is_file() and file_digest(other) != file_digest(path):
        raise RunError(
            f"Expected no other {path.name} in {folder}, whose int8 form this would seem to be; "
            "choose another --export-dir"
        )
    facts: dict[str, Any] = {"parameters": count_parameters(path), "earlier": []}
    logs = []
    if path.with_suffix(".json").is_file():
        facts = read_facts(path)
        logs = [log for log in log_files(path, len(facts["earlier"])) if log.is_file()]
    facts = {key: value for key, value in facts.items() if key not in ("int8", "fp16")}
    refused = _quantize(path, folder, facts, pictures, reduce_range, report, description)
    if not refused:
        for log in logs if folder.resolve() != path.parent.resolve() else ():
            write_text(folder / log.name, read_log(log))
        describe_folder(folder)
    return refused


def _quantize(
    parent: Path,
    folder: Path,
    facts: Mapping[str, Any],
    pictures: Pictures,
    reduce_range: bool,
    report: Report,
    description: Description | None = None,
) -> list[str]:
    path = folder / f"{parent.stem}.int8.onnx"
    if pictures.held_out is None:
        return [f"{path.name} is not written: expected images to evaluate it on, received none"]
    try:
        made = quantize_int8(
            open_file(parent, **(description or {})),
            path,
            pictures.training,
            pictures.held_out,
            reduce_range=reduce_range,
        )
    except ExportError as error:
        return [error.message]
    extra = dataclasses.asdict(made) | {"path": path.name, "calibration": str(made.calibration)}
    _ship(path, {**facts, "int8": extra}, pictures, report)
    report(
        f"{path}: {made.lost * 100:.2f} ± {made.lost_half * 100:.2f} points (95 %) below fp32 on "
        f"{made.images:,} images"
    )
    return []


def _ship(path: Path, facts: Mapping[str, Any], pictures: Pictures, report: Report) -> None:
    if pictures.held_out is None:
        write_facts(path, facts)
        report(str(path))
        return
    measured = evaluate_file(path, pictures.held_out)
    write_facts(path, {**facts, **measured})
    single, mirrored = measured["single"], measured["mirrored"]
    agreed = ""
    if "agreement" in single:
        agreed = f", {VOTE_SCORES['agreement'].title} {single['agreement']:.3f}"
    report(
        f"{path}: top-1 {single['accuracy']:.2%}, mirrored {mirrored['accuracy']:.2%}{agreed} on "
        f"{measured['evaluated_on']}"
    )


def describe_folder(folder: Path) -> Path:
    """Write SHA256SUMS and MODELS.md of a folder of exported models; return the latter.

    Raises:
        RunError: Facts are damaged, or a file cannot be written.
        ModelError: A model cannot be read.
    """
    update_digests(folder)
    return write_cards(folder)


def update_digests(folder: Path) -> None:
    """Write SHA256SUMS over the models in a folder; ``sha256sum -c`` reads it."""
    lines = [
        f"{file_digest(path)}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.suffix in (".onnx", ".keras") and not path.name.startswith(".")
    ]
    write_text(folder / DIGESTS, "".join(lines))


def _averaged(source: Source, pictures: Pictures, path: Path) -> Source:
    """Write the mean of a model's weights and those before it, and say so of it."""
    if not source.earlier:
        raise RunError("Expected --earlier with --average, received nothing to average with")
    recipe = source.facts.get("recipe", {})
    change = None
    if recipe.get("augmentation") or recipe.get("erasing"):
        strength, erasing = recipe["augmentation"], recipe["erasing"]
        change = augmentation(strength, erasing, source.facts["seed"] % 2**32)
    files = [*(one.weights for one in source.earlier), source.keras_file]
    net = average(files, pictures.training, change, source.recipe)
    net.save(path)
    spec = source.spec
    if pictures.held_out is not None:
        rows = predict(net, pictures.held_out.images)
        scores = classification_metrics(pictures.held_out.labels, rows)
        spec = dataclasses.replace(spec, scores={name: float(scores[name]) for name in SCORES})
    stages = np.cumsum([len(one.stages) for one in source.earlier]).tolist()
    facts = source.facts | {"averaged": stages}
    return dataclasses.replace(source, keras_file=path, spec=spec, facts=facts)


def _remove_others(path: Path, report: Report) -> None:
    """Remove what tells of, or was made from, the file that was there before; not its weights."""
    others = [path.with_suffix(".json"), *path.parent.glob(f"{path.stem}.*history.csv")]
    digest = file_digest(path)
    for form in sorted(path.parent.glob(f"{path.stem}.*.onnx")):
        if open_file(form).spec.parent != digest:
            others += [form, form.with_suffix(".json")]
            report(f"{form}: removed, since it was made from an earlier {path.name}")
    for other in others:
        other.unlink(missing_ok=True)


def _write_logs(path: Path, logs: list[str]) -> None:
    for target, log in zip(log_files(path, len(logs) - 1), logs, strict=True):
        if log:
            write_text(target, log)


def _copy(source: Path, target: Path) -> None:
    write_atomic(target, lambda temporary: shutil.copyfile(source, temporary))
