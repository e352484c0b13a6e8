"""What each session option costs and gains: threads, spinning, arena, graph optimisation, cache.

Each variant changes one option of the runtime's own session
(`fer_edge.inference.session`), which runs beside it in the same turns:

- batches one after the other, as with a folder of pictures;
- 30 inferences a second, as with video: threads that spin take the processor in between;
- the time until a session is open, and the memory that one has taken after batches of 1 and 64.

A cached graph is the one that onnxruntime has optimised for this processor, saved and opened again
without optimisation.

    python benchmarks/session_options.py --json benchmarks/results/session_options.json
"""

import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.exported import EXPORTED, emotion_models
from benchmarks.latency import Contender, race
from benchmarks.machine import json_option, write_results
from benchmarks.memory import resident_mib
from fer_edge._base._ort import onnxruntime
from fer_edge._base.threads import available_threads
from fer_edge.errors import FerError

BATCHES = (1, 64)
DEFAULT = "as shipped"
_RATE = 30
_FULL = "ORT_ENABLE_ALL"
_LEVELS = {"no": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}


@dataclass(frozen=True)
class Variant:
    """Options of a session; but for the threads, the defaults are the runtime's.

    Attributes:
        path: The ONNX file.
        threads: Threads that one inference may use.
        spin: Whether idle threads wait busily.
        arena: Whether memory is taken in large blocks and kept.
        level: Graph optimisation, a name of ``onnxruntime.GraphOptimizationLevel``.
    """

    path: Path
    threads: int
    spin: bool = True
    arena: bool = True
    level: str = _FULL


def variants(path: Path, cached: Path, threads: int) -> dict[str, Variant]:
    """Return the runtime's own session and what differs from it in one option."""
    default = Variant(path, threads)
    found = {DEFAULT: default}
    if threads > 1:
        found["1 thread"] = Variant(path, 1)
    found["no spinning"] = dataclasses.replace(default, spin=False)
    found["no arena"] = dataclasses.replace(default, arena=False)
    for name, level in _LEVELS.items():
        found[f"{name} graph optimisation"] = dataclasses.replace(default, level=level)
    found["cached graph"] = dataclasses.replace(default, path=cached, level=_LEVELS["no"])
    return found


def open_variant(variant: Variant, save: Path | None = None) -> Callable[[int], object]:
    """Open a session; return what runs a batch of a size.

    Args:
        variant: Its options.
        save: Where the optimised graph is written to.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = variant.threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = variant.arena
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, variant.level)
    # It warns that a saved graph belongs to this processor.
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(variant.spin)))
    if save is not None:
        options.optimized_model_filepath = str(save)
    session = onnxruntime.InferenceSession(
        variant.path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    (source,) = session.get_inputs()
    batches = {size: np.full((size, *source.shape[1:]), 128, np.float32) for size in BATCHES}
    return lambda size: session.run(None, {source.name: batches[size]})


def opening_s(chosen: Sequence[Variant], rounds: int) -> list[list[float]]:
    """Return the seconds that each takes to open, in turns."""
    times: list[list[float]] = [[] for _ in chosen]
    for _ in range(rounds + 1):
        for own, variant in zip(times, chosen, strict=True):
            start = time.perf_counter()
            open_variant(variant)
            own.append(time.perf_counter() - start)
    # The first of each fills the system's file cache.
    return [own[1:] for own in times]


def paced(run: Callable[[int], object], seconds: float) -> tuple[float, float]:
    """Run one image 30 times a second; return the median wall and the mean processor seconds."""
    walls = []
    began, processor = time.perf_counter(), time.process_time()
    count = max(1, round(seconds * _RATE))
    for index in range(count):
        time.sleep(max(0.0, began + index / _RATE - time.perf_counter()))
        start = time.perf_counter()
        run(1)
        walls.append(time.perf_counter() - start)
    # What spins after the last inference belongs to it.
    time.sleep(max(0.0, began + count / _RATE - time.perf_counter()))
    return statistics.median(walls), (time.process_time() - processor) / count


def growth_mib(variant: Variant) -> float | None:
    """Return what a session takes of this process's memory, or None where that is not told."""
    before = resident_mib(os.getpid())
    run = open_variant(variant)
    for size in BATCHES:
        run(size)
    after = resident_mib(os.getpid())
    return None if before is None or after is None else after - before


def measure(path: Path, threads: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return a row for each variant of a file's session: plain values for JSON."""
    with tempfile.TemporaryDirectory() as folder:
        cached = Path(folder) / "cached.onnx"
        open_variant(Variant(path, threads), cached)
        chosen = variants(path, cached, threads)
        # A process for each: what one has freed would be there for the next.
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            grown = pool.map(growth_mib, chosen.values(), chunksize=1)
        opened = opening_s(list(chosen.values()), rounds)
        runs = [open_variant(variant) for variant in chosen.values()]
        raced = {size: _race(runs, size, rounds, seconds) for size in BATCHES}
        rows = []
        for index, (name, run) in enumerate(zip(chosen, runs, strict=True)):
            wall_s, processor_s = paced(run, seconds)
            row: dict[str, Any] = {"variant": name}
            for size, times in raced.items():
                row[f"batch_{size}_ms"] = float(np.median(times[index])) * 1000
                row[f"batch_{size}_ratio"] = _ratio(times[index], times[0])
            row["paced_ms"] = wall_s * 1000
            row["paced_processor_ms"] = processor_s * 1000
            row["open_ms"] = statistics.median(opened[index]) * 1000
            row["open_ratio"] = statistics.median(
                own / shipped for own, shipped in zip(opened[index], opened[0], strict=True)
            )
            row["grown_mib"] = grown[index]
            rows.append(row)
    return rows


def _race(
    runs: Sequence[Callable[[int], object]], size: int, rounds: int, seconds: float
) -> list[NDArray[np.float64]]:
    contenders = [
        Contender("", "onnx", "cpu", 0, 0.0, lambda run=run: run(size))  # type: ignore[misc]
        for run in runs
    ]
    return race(contenders, rounds, seconds * len(runs))


def _ratio(own: NDArray[np.float64], shipped: NDArray[np.float64]) -> float:
    return float(np.median(np.median(own, axis=1) / np.median(shipped, axis=1)))


def _print(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    print(
        f"{name:32}{'batch 1 ms':>18}{'batch 64 ms':>18}{'at 30/s ms':>12}{'of CPU':>8}"
        f"{'open ms':>18}{'MiB':>8}"
    )
    for row in rows:
        pairs = [(row[f"{key}_ms"], row[f"{key}_ratio"]) for key in ("batch_1", "batch_64", "open")]
        first, second, opened = (f"{ms:10.2f} x{ratio:6.2f}" for ms, ratio in pairs)
        grown = "" if row["grown_mib"] is None else f"{row['grown_mib']:.1f}"
        print(
            f"  {row['variant']:30}{first}{second}{row['paced_ms']:12.2f}"
            f"{row['paced_processor_ms']:8.2f}{opened}{grown:>8}"
        )


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--threads", type=click.IntRange(1), help="[default: all this process may use]")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="About how long each variant runs in each way.",
)
@json_option
def main(
    models: tuple[Path, ...],
    threads: int | None,
    rounds: int,
    seconds: float,
    json_path: Path | None,
) -> None:
    """Print a table for each model; of all exported files where none is named."""
    files = models or emotion_models(EXPORTED)
    if not files:
        raise FerError(f"Expected ONNX files in {EXPORTED}, found none")
    count = threads or available_threads()
    results = {}
    for path in files:
        results[path.name] = measure(path, count, rounds, seconds)
        _print(path.name, results[path.name])
    write_results(json_path, {"threads": count, "models": results})


if __name__ == "__main__":
    main()
