"""``fer-edge classify PICTURE`` against the least that any program has to do.

The bare script imports OpenCV and onnxruntime, finds the surest face with the same network and runs
the same model once. Both are started afresh, in turns, so that a busy machine slows both alike.

    python benchmarks/startup.py --json benchmarks/results/startup.json
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks.machine import json_option, write_results
from fer_edge._base.threads import available_threads
from fer_edge.inference.locate import DEFAULT_DETECTOR, find_model

ROOT = Path(__file__).parents[1]
BARE = """
import sys
import cv2
import numpy as np
import onnxruntime
picture, model, detector, threads = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
finder, session = (
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for path in (detector, model)
)
frame = cv2.imread(picture)
height, width = (side // 32 * 32 for side in frame.shape[:2])
image = frame[:height, :width].transpose(2, 0, 1)[None].astype(np.float32)
maps = finder.run(None, {finder.get_inputs()[0].name: image})
cells, stride = max(zip(maps, (8, 16, 32)), key=lambda pair: pair[0][0, 0].max())
row, column = np.unravel_index(cells[0, 0].argmax(), cells.shape[2:])
_, x, y, w, h = cells[0, :5, row, column]
middle = np.array([column + 0.5 + x, row + 0.5 + y]) * stride
half = np.exp([w, h]).max() * stride / 2
(left, top), side = np.maximum(middle - half, 0).astype(int), int(2 * half)
gray = cv2.cvtColor(frame[top : top + side, left : left + side], cv2.COLOR_BGR2GRAY)
batch = cv2.resize(gray, (48, 48), interpolation=cv2.INTER_AREA).astype(np.float32)
print(session.run(None, {session.get_inputs()[0].name: batch[None, :, :, None]})[0])
"""
# Installed packages lie compiled, and so does what the first run leaves.
_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    "PYTHONPATH": str(ROOT),
}
FER_EDGE = "from fer_edge.cli import main; main()"


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command; return its wall time in seconds and its peak memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=_ENVIRONMENT)
    _, status, usage = os.wait4(process.pid, 0)
    elapsed_s = time.perf_counter() - start
    if status:
        raise click.ClickException(f"{command[2][:40]}... ended with status {status}")
    # Linux counts kibibytes, macOS bytes.
    return elapsed_s, usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@click.command()
@click.option("--picture", default=str(ROOT / "tests/data/portrait.jpg"), show_default=True)
@click.option("--model", help="[default: the shipped default]")
@click.option("--runs", default=15, show_default=True)
@json_option
def main(picture: str, model: str | None, runs: int, json_path: Path | None) -> None:
    """Print wall time and peak memory of both; exit 1 above a slowdown of 1.3."""
    path, detector = str(find_model(model)), str(find_model(default=DEFAULT_DETECTOR))
    commands = {
        "bare": [sys.executable, "-c", BARE, picture, path, detector, str(available_threads())],
        "fer_edge": [sys.executable, "-c", FER_EDGE, "classify", picture, "--model", path],
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(runs + 1):
        for name, command in commands.items():
            figures[name].append(measure(command))
    results: dict[str, dict[str, float]] = {}
    for name, values in figures.items():
        # The first of each fills the system's file cache.
        times, peaks = zip(*values[1:], strict=True)
        results[name] = {
            "median_s": round(statistics.median(times), 4),
            "least_s": round(min(times), 4),
            "peak_mib": round(statistics.median(peaks), 1),
        }
    pairs = zip(figures["fer_edge"][1:], figures["bare"][1:], strict=True)
    ratio = round(statistics.median(ours[0] / bare[0] for ours, bare in pairs), 3)
    memory = round(results["fer_edge"]["peak_mib"] / results["bare"]["peak_mib"], 3)
    print(f"{'':<10}{'median s':>10}{'least s':>10}{'peak MiB':>10}")
    for name, row in results.items():
        print(f"{name:<10}" + "".join(f"{value:>10}" for value in row.values()))
    print(f"ratio of times, median of {runs} pairs: {ratio}; of memory: {memory}")
    write_results(
        json_path,
        {
            "model": Path(path).name,
            "runs": runs,
            **results,
            "ratio": ratio,
            "memory_ratio": memory,
        },
    )
    if ratio > 1.3:
        sys.exit(1)


if __name__ == "__main__":
    main()
