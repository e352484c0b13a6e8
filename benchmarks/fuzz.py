"""Damaged pictures and models by the thousand: each must end as a record or a refusal.

Pictures: cut, bit-flipped, header-edited, spliced JPEG, PNG, WebP, BMP, TIFF and GIF files are
classified in a child process; each must become one record, within a time limit, without a
traceback. Models, of emotions and of faces: damaged ONNX files are loaded and run in child
processes, since a crash of the interpreter is what is looked for; each must be refused with a
reason or run.

    python benchmarks/fuzz.py --pictures 2000 --models 200 --json benchmarks/results/fuzz.json
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import onnx

from benchmarks.machine import json_option, write_results
from fer_edge.inference.locate import DEFAULT_DETECTOR, find_model

ROOT = Path(__file__).parents[1]
SUFFIXES = (".jpg", ".png", ".webp", ".bmp", ".tiff", ".gif")
Random = np.random.Generator

_CLASSIFY = "from fer_edge.cli import main; main()"
# Loads and runs each model; a line for each, flushed, so that a crash is laid to the right one.
_RUN_MODELS = """
import sys
from pathlib import Path
import numpy as np
from fer_edge import Classifier, FerError
from fer_edge.inference.describe import model_input_shape
from fer_edge.inference.detectors import OnnxDetector
for path in map(Path, sys.stdin.read().split("\\n")):
    print("start", path.name, flush=True)
    try:
        if path.name.startswith("face"):
            OnnxDetector(path).detect(np.full((240, 320, 3), 128, np.uint8))
            print("run", path.name, flush=True)
            continue
        classifier = Classifier(path, detector="none", threads=1)
        if np.prod(model_input_shape(classifier.spec)) > 2**22:
            raise MemoryError
        batch = np.full((2, *model_input_shape(classifier.spec)), 128, np.float32)
        classifier.probabilities(batch)
        print("run", path.name, flush=True)
    except FerError as error:
        print("refused", path.name, error.message.replace("\\n", " "), flush=True)
"""


def seeds() -> dict[str, bytes]:
    """Return a small picture in each format."""
    portrait = cv2.imread(str(ROOT / "tests/data/portrait.jpg"))
    if portrait is None:
        raise click.ClickException("tests/data/portrait.jpg is missing")
    small = cv2.resize(portrait[40:200, 140:300], (80, 80), interpolation=cv2.INTER_AREA)
    return {suffix: cv2.imencode(suffix, small)[1].tobytes() for suffix in SUFFIXES}


def damage(content: bytes, random: Random) -> bytes:
    """Return a damaged copy: cut, flipped, edited at its head, spliced or padded."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, 4))):
        size = max(1, len(data))
        at = int(random.integers(size))
        match int(random.integers(6)):
            case 0:
                del data[at:]
            case 1:
                for place in random.integers(0, size, int(random.integers(1, 20))):
                    if place < len(data):
                        data[place] ^= 1 << int(random.integers(8))
            case 2:
                # Sizes, depths and offsets live here, so these bytes get the values that hurt.
                for place in random.integers(0, min(size, 64), int(random.integers(1, 5))):
                    if place < len(data):
                        data[place] = int(random.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF]))
            case 3:
                piece = data[at : at + int(random.integers(1, 200))]
                data[at:at] = piece * int(random.integers(1, 4))
            case 4:
                del data[at : at + int(random.integers(1, 200))]
            case _:
                data[at : at + 4] = random.bytes(4)
    return bytes(data)


def damaged_pictures(folder: Path, count: int, seed: int) -> list[Path]:
    """Write damaged pictures of all formats."""
    random = np.random.default_rng(seed)
    originals = list(seeds().items())
    paths = []
    for index in range(count):
        suffix, content = originals[index % len(originals)]
        path = folder / f"{index:05d}{suffix}"
        path.write_bytes(damage(content, random))
        paths.append(path)
    return paths


def fuzz_pictures(count: int, seed: int, model: Path, timeout_s: float) -> dict[str, object]:
    """Classify damaged pictures and count what became of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        damaged_pictures(folder, count, seed)
        command = [sys.executable, "-c", _CLASSIFY, "classify", name, "--model", str(model)]
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "--format", "jsonl", "--detector", "none"],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=timeout_s,
        )
        elapsed_s = time.perf_counter() - start
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        "files": count,
        "records": len(records),
        "by_status": dict(Counter(record["status"] for record in records)),
        "exit_code": done.returncode,
        "tracebacks": done.stderr.count("Traceback"),
        "seconds": round(elapsed_s, 1),
    }


def damaged_models(model: Path, count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged copies of a model: by the byte, and by its graph, which gets further."""
    random = np.random.default_rng(seed)
    content = model.read_bytes()
    for index in range(count):
        yield damage(content, random) if index % 3 == 0 else damage_graph(content, random)


def damage_graph(content: bytes, random: Random) -> bytes:
    """Return a copy that is well-formed protobuf of a graph that makes no sense."""
    model = onnx.load_from_string(content)
    graph = model.graph

    def some(items: Any) -> Any:
        return items[int(random.integers(len(items)))]

    numbers = (-(2**63), -1, 0, 1, 2, 7, 48, 2**31, 2**62)
    attributes = [item for node in graph.node for item in node.attribute if item.ints or item.i]
    for _ in range(int(random.integers(1, 4))):
        node = some(graph.node)
        match int(random.integers(9)):
            case 0 if graph.initializer:
                tensor = some(graph.initializer)
                tensor.dims[:] = [int(some(numbers)) for _ in range(int(random.integers(5)))]
            case 1 if graph.initializer:
                tensor = some(graph.initializer)
                tensor.raw_data = damage(tensor.raw_data, random)
            case 2 if graph.initializer:
                some(graph.initializer).data_type = int(random.integers(0, 24))
            case 3:
                node.op_type = some(graph.node).op_type
            case 4 if node.input:
                names = [*some(graph.node).input, *some(graph.node).output]
                node.input[int(random.integers(len(node.input)))] = some(names)
            case 5 if attributes:
                attribute = some(attributes)
                attribute.i = int(some(numbers))
                attribute.ints[:] = [int(some(numbers)) for _ in attribute.ints]
            case 6:
                graph.node.remove(node) if len(graph.node) > 1 else None
            case 7:
                shape = some([*graph.input, *graph.output]).type.tensor_type.shape
                if shape.dim:
                    some(shape.dim).dim_value = int(some(numbers))
            case _:
                model.opset_import[0].version = int(random.integers(1, 26))
    damaged: bytes = model.SerializeToString()
    return damaged


def fuzz_models(count: int, seed: int, model: Path, timeout_s: float) -> dict[str, object]:
    """Load and run damaged models in child processes and count what became of them."""
    outcomes: Counter[str] = Counter()
    crashed = []
    with tempfile.TemporaryDirectory() as name:
        left = []
        for index, content in enumerate(damaged_models(model, count, seed)):
            path = Path(name) / f"{model.stem}-{index:05d}.onnx"
            path.write_bytes(content)
            left.append(path)
        while left:
            output = _run_models(left, timeout_s)
            lines = [line.split(" ", 2) for line in output.splitlines()]
            started = [line[1] for line in lines if line[0] == "start"]
            outcomes.update(line[0] for line in lines if line[0] != "start")
            if len(started) * 2 != len(lines):
                crashed.append(started[-1])
            left = left[max(1, len(started)) :]
    return {"files": count, **outcomes, "crashes": len(crashed), "crashed": crashed}


def _run_models(paths: list[Path], timeout_s: float) -> str:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RUN_MODELS],
            input="\n".join(map(str, paths)),
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=timeout_s,
        )
        return done.stdout
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode()


@click.command()
@click.option("--pictures", default=2000, show_default=True)
@click.option("--models", default=200, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--model", help="The model that is run and damaged. [default: the shipped default]")
@json_option
def main(pictures: int, models: int, seed: int, model: str | None, json_path: Path | None) -> None:
    """Print how many damaged files ended as what; exit 1 if any made something fall over."""
    path = find_model(model).resolve()
    face = find_model(default=DEFAULT_DETECTOR).resolve()
    found = {
        "pictures": fuzz_pictures(pictures, seed, path, 60 + pictures / 2),
        "models": fuzz_models(models, seed, path, 60 + 2 * models),
        "detectors": fuzz_models(models, seed, face, 60 + 2 * models),
    }
    print(json.dumps(found, indent=1))
    write_results(json_path, found)
    good = found["pictures"]["records"] == pictures and not found["pictures"]["tracebacks"]
    if not good or found["models"]["crashes"] or found["detectors"]["crashes"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
