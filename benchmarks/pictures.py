"""Draw the pictures of docs/results.md from benchmarks/results and exported/*.json.

python benchmarks/pictures.py
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import click
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.tables import RESULTS, Measured
from fer_edge.errors import FerError
from fer_train.report.plots import BLUE, GRAY, GREEN, ORANGE, to_png

_LOOKS = {"fp32": (BLUE, "o"), "int8": (ORANGE, "s"), "peer": (GREEN, "^")}
"""Colour and marker of each kind: told apart by shape too."""
_SIZE = (4.8, 3.4)
_DPI = 200


def accuracy_against_latency(measured: Measured) -> Figure:
    """Draw a dot for each exported file and peer whose top-1 and latency are both known."""
    latency = {row["name"]: row["median_ms"] for row in measured.latencies()}
    dots = [
        (name, _kind(name), latency[name], facts["single"]["accuracy"])
        for name, facts in measured.models().items()
        if name in latency
    ]
    for peer in measured.peers():
        here = latency.get(f"{peer.get('model')}.onnx")
        if here is not None:
            dots.append((f"{peer['name']}, as ONNX", "peer", here, peer["accuracy"]))
        elif "latency_ms" in peer:
            name = f"{peer['name']}, measured elsewhere"
            dots.append((name, "peer", peer["latency_ms"], peer["accuracy"]))
    figure, axes = _axes()
    middle = (min(dot[2] for dot in dots) * max(dot[2] for dot in dots)) ** 0.5
    for name, kind, ms, accuracy in dots:
        color, marker = _LOOKS[kind]
        axes.plot(ms, 100 * accuracy, marker, color=color, markersize=9, markeredgecolor="white")
        # Ours above their dots; the others' long names below, towards the middle.
        side = -1 if ms > middle else 1
        beside = {"ha": "right" if side < 0 else "left", "va": "top", "xytext": (8 * side, -10)}
        above = {"ha": "center", "va": "bottom", "xytext": (0, 7)}
        axes.annotate(
            name.replace("`", "").removesuffix(".onnx"),
            (ms, 100 * accuracy),
            textcoords="offset points",
            fontsize=8,
            **(beside if kind == "peer" else above),
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(0.2)
    axes.set_xlabel("ms for one face (log scale; left is faster)", fontsize=9)
    axes.set_ylabel("top-1 on FER-2013's PublicTest, %", fontsize=9)
    axes.grid(color=GRAY, alpha=0.3)
    return figure


def speed_up(measured: Measured) -> Figure:
    """Draw how many times as fast as Keras's predict each file is, for one face."""
    rows = measured.latencies()
    latency = {row["name"]: row["median_ms"] for row in rows}
    bars = []
    for name, ms in latency.items():
        stem = name.partition(".")[0]
        predict = latency.get(f"{stem}.keras predict")
        if name.endswith(".onnx") and predict is not None:
            bars.append((name, predict / ms))
    if not bars:
        raise FerError("Expected Keras files in latency.json, found none")
    figure, axes = _axes()
    for row, (name, times) in enumerate(sorted(bars, reverse=True)):
        color, _ = _LOOKS[_kind(name)]
        hatch = "//" if _kind(name) == "int8" else ""
        axes.barh(row, times, color=color, hatch=hatch, edgecolor="white")
        axes.annotate(
            f"{times:.0f} x", (times, row), textcoords="offset points", xytext=(4, 0), va="center"
        )
    axes.set_yticks(range(len(bars)), [name for name, _ in sorted(bars, reverse=True)], fontsize=8)
    axes.margins(x=0.2)
    axes.set_xlabel("times as fast as Keras's predict, one face", fontsize=9)
    return figure


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _kind(name: str) -> str:
    return "fp32" if name.count(".") == 1 else "int8"


PICTURES: Mapping[str, Callable[[Measured], Figure]] = {
    "accuracy-against-latency": accuracy_against_latency,
    "speed-up": speed_up,
}


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=RESULTS,
    help="[default: benchmarks/results]",
)
def main(output: Path) -> None:
    """Draw the pictures."""
    if not Measured().latencies():
        raise FerError("Expected benchmarks/results/latency.json; run benchmarks/latency.py")
    for name, draw in PICTURES.items():
        (output / f"{name}.png").write_bytes(to_png(draw(Measured()), _DPI))


if __name__ == "__main__":
    main()
