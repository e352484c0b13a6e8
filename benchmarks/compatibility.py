"""Exported files in old and other runtimes: do they load, and do they predict alike?

Each old onnxruntime is installed into an environment of its own, which is thrown away; it runs
every file on the same images as the runtime that is installed here. OpenCV's own DNN module, for
programs that have nothing else, is tried too, an image at a time; it is no runtime of ours, so what
it cannot do is told but is no failure. Beside that stand the opset and the operators of each graph.

    python benchmarks/compatibility.py --json benchmarks/results/compatibility.json
"""

import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.exported import EXPORTED, emotion_models
from benchmarks.machine import json_option, write_results
from benchmarks.parity import FLOAT_TOLERANCE
from fer_edge.errors import FerError
from fer_edge.inference.classifier import Classifier
from fer_train.export.convert import gate_sample
from fer_train.export.simplify import operators

OLD_RUNTIMES = "1.19.2,1.20.1"
"""The oldest that the package allows, of September 2024, and its successor of that November."""
OPENCV = "OpenCV DNN"
NEEDLESS = ("Transpose", "Cast", "Identity", "BatchNormalization")
"""Operators that an exported graph has no need of; but for the transposes of int8, see below."""
LEAST_EQUAL = 0.95
"""Share of equal predictions that int8 and fp16 owe: kernels round differently."""

_RUN = """
import sys
import numpy
import onnxruntime
version, batch, predicted, file = sys.argv[1:]
if onnxruntime.__version__ != version:
    sys.exit(f"Expected onnxruntime {version}, received {onnxruntime.__version__}")
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
numpy.save(predicted, session.run(None, {session.get_inputs()[0].name: numpy.load(batch)})[0])
"""

Rows = NDArray[np.float32]


def make_environment(version: str, folder: Path) -> Path:
    """Install an old onnxruntime into a folder; return the environment's Python.

    Raises:
        FerError: It cannot be installed.
    """
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    # Built against numpy 1, those before 1.19 fail with numpy 2 without saying so to pip.
    wanted = [f"onnxruntime=={version}", "numpy<2"]
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FerError(f"Expected to install {' '.join(wanted)}: {_last_line(done.stderr)}")
    return python


def predict_elsewhere(python: Path, version: str, file: Path, batch: Rows) -> Rows | str:
    """Run a file under another Python; return what it predicts, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        given, predicted = Path(folder) / "batch.npy", Path(folder) / "predicted.npy"
        np.save(given, batch)
        done = subprocess.run(
            [python, "-c", _RUN, version, given, predicted, file.resolve()],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return _last_line(done.stderr)
        found: Rows = np.load(predicted)
        return found


def predict_in_opencv(file: Path, batch: Rows) -> Rows | str:
    """Run a file in OpenCV's DNN module, an image at a time."""
    try:
        net = cv2.dnn.readNetFromONNX(str(file))
        # Its default, Winograd's transform, is faster and rounds several times as much.
        net.enableWinograd(False)
        predicted = []
        for image in batch:
            net.setInput(image[None])
            predicted.append(np.array(net.forward(), np.float32))
        return np.concatenate(predicted)
    except cv2.error as error:
        return " ".join(str(error.err).split())


def compare(runtime: str, precision: str, wanted: Rows, found: Rows | str) -> dict[str, Any]:
    """Return a row of the table: plain values for JSON."""
    row: dict[str, Any] = {"runtime": runtime, "loads": not isinstance(found, str)}
    if isinstance(found, str):
        return row | {"reason": found, "ok": False}
    largest = float(np.abs(wanted - found).max())
    equal = float(np.mean(wanted.argmax(axis=1) == found.argmax(axis=1)))
    good = largest <= FLOAT_TOLERANCE if precision == "fp32" else equal >= LEAST_EQUAL
    return row | {"largest_difference": largest, "equal_predictions": equal, "ok": good}


def graph_facts(file: Path) -> dict[str, Any]:
    """Return IR version, opset and operators of a file, and which of these are needless.

    An int8 file has two transposes, which channels-last integer kernels cancel.
    """
    model = onnx.load(file)
    found = operators(model)
    needless = set(NEEDLESS) & set(found)
    if found.get("QuantizeLinear") and found.get("Transpose", 0) <= 2:
        needless -= {"Transpose"}
    return {
        "ir_version": model.ir_version,
        "opsets": {opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        "operators": found,
        "needless": sorted(needless),
    }


def _last_line(message: str) -> str:
    return (message.strip() or "no message").splitlines()[-1]


def _print(name: str, facts: dict[str, Any]) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in facts["operators"].items())
    opsets = ", ".join(f"{domain} {version}" for domain, version in facts["opsets"].items())
    print(f"{name}: IR {facts['ir_version']}, opset {opsets}: {kinds}")
    if facts["needless"]:
        print(f"  needless: {', '.join(facts['needless'])}")
    for row in facts["runtimes"]:
        told = row.get("reason") or (
            f"largest difference {row['largest_difference']:.1e}, "
            f"equal predictions {row['equal_predictions']:.1%}"
        )
        print(f"  {row['runtime']:20}{'ok' if row['ok'] else 'NOT OK':8}{told}")


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--onnxruntime",
    "versions",
    default=OLD_RUNTIMES,
    show_default=True,
    help="Versions, with commas; empty for none.",
)
@json_option
def main(models: tuple[Path, ...], versions: str, json_path: Path | None) -> None:
    """Run files, all exported ones where none is named; exit 1 if an onnxruntime disagrees."""
    files: Sequence[Path] = models or emotion_models(EXPORTED)
    if not files:
        raise FerError(f"Expected ONNX files in {EXPORTED}, found none")
    batch = gate_sample()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pythons = {
            version: make_environment(version, Path(folder) / version)
            for version in versions.split(",")
            if version
        }
        for file in files:
            model = Classifier(file, provider="cpu", detector="none", prior=0)
            wanted, precision = model.probabilities(batch), model.spec.precision
            predicted = {
                f"onnxruntime {version}": predict_elsewhere(python, version, file, batch)
                for version, python in pythons.items()
            }
            predicted[OPENCV] = predict_in_opencv(file, batch)
            facts = results[file.name] = graph_facts(file)
            facts["runtimes"] = [
                compare(runtime, precision, wanted, found) for runtime, found in predicted.items()
            ]
            _print(file.name, facts)
    write_results(json_path, {"images": len(batch), "files": results})
    rows = [row for facts in results.values() for row in facts["runtimes"]]
    if any(facts["needless"] for facts in results.values()) or not all(
        row["ok"] for row in rows if row["runtime"] != OPENCV
    ):
        sys.exit(1)


if __name__ == "__main__":
    main()
