"""Arrays -> figures; pure: nothing is read, shown or kept, and pyplot is never touched.

Colours are Okabe and Ito's, which people with any colour vision can tell apart; what differs by
colour differs by dash, marker or shade too. Figures are narrow, so that one column on a phone shows
their text at reading size.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from fer_train.network.architecture import LayerRow
from fer_train.run.metrics import CalibrationBin, ClassCurve

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, GRAY = "#56B4E9", "#F0E442", "#999999"
LINES = (BLUE, ORANGE, GREEN, PURPLE, SKY, "#E69F00", "#000000", GRAY)
"""For lines and points, on which yellow would hardly be seen on white."""
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, GRAY)

_WIDTH = 4.8
"""Inches; at 72 points an inch as wide as a phone's column."""
_PAGE_COLUMNS = 3
_DASHES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D")
_SHADES = (BLUE, "#E69F00", "#D9D9D9")  # dark, middle, light: told apart in grey print too

# Text stays text, so that it can be searched and scales; ids follow from the content.
_SVG = {"svg.fonttype": "none", "svg.hashsalt": "fer-train"}


def to_svg(figure: Figure) -> bytes:
    """Draw a figure as SVG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context(_SVG):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def to_png(figure: Figure, dpi: int = 110) -> bytes:
    """Draw a figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def image_grid(
    images: Sequence[NDArray[np.uint8]], names: Sequence[str], columns: int, title: str
) -> Figure:
    """Show grey images (H, W) uint8 with a name each, of a line or several, row by row."""
    rows = -(-len(images) // columns)
    more_lines = max(name.count("\n") for name in names)
    figure = _figure(columns * 0.95, 0.4 + rows * (1.15 + 0.14 * more_lines))
    figure.suptitle(title, fontsize=11)
    for axes, image, name in zip(_grid(figure, rows, columns), images, names, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(name, fontsize=8)
    return figure


def pie(counts: Mapping[str, int], title: str) -> Figure:
    """Show the share of each name; names that do not occur are left out."""
    shown = {name: count for name, count in counts.items() if count}
    total = sum(shown.values())
    figure = _figure(_WIDTH, 3.6)
    axes = figure.add_subplot()
    axes.pie(
        list(shown.values()),
        labels=[f"{name}\n{count / total:.1%}" for name, count in shown.items()],
        colors=COLORS,
        startangle=90,
        counterclock=False,
        labeldistance=1.13,
        wedgeprops={"edgecolor": "white", "linewidth": 1.5},
        textprops={"fontsize": 9},
    )
    axes.set_title(title, fontsize=11)
    return figure


def count_bars(counts: Mapping[str, int], title: str) -> Figure:
    """Show the number of images of each name."""
    figure, axes = _axes(title, "", "images")
    bars = axes.bar(list(counts), list(counts.values()), color=BLUE)
    axes.bar_label(bars, labels=[f"{count:,}" for count in counts.values()], fontsize=8)
    axes.margins(y=0.1)
    axes.tick_params(axis="x", labelrotation=30)
    return figure


def curves(history: Mapping[str, ArrayLike], names: Sequence[str], title: str) -> Figure:
    """Show measures over the epochs: solid on validation images, dotted on training images.

    Args:
        history: ``epoch`` and, for each name, ``NAME`` and ``val_NAME``; one value an epoch.
        names: Measures that share one axis.
        title: Of the figure.
    """
    figure, axes = _axes(title, "epoch", names[0] if len(names) == 1 else "")
    epochs = np.asarray(history["epoch"])
    for name, color, marker in zip(names, COLORS, _MARKERS, strict=False):
        label = "" if len(names) == 1 else f"{name}, "
        every = max(1, len(epochs) // 10)
        axes.plot(
            epochs,
            history[f"val_{name}"],
            color=color,
            marker=marker,
            markevery=every,
            markersize=4,
            label=f"{label}validation",
        )
        axes.plot(epochs, history[name], color=color, linestyle=":", label=f"{label}training")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8, ncols=2)
    return figure


def mean_curves(folds: Sequence[Mapping[str, ArrayLike]], name: str, title: str) -> Figure:
    """Show the mean of a measure over folds at each epoch, and its standard deviation as a band.

    Args:
        folds: As the history of `curves`; those that stop early count as far as they go.
        name: The measure.
        title: Of the figure.
    """
    figure, axes = _axes(title, "epoch", name)
    for column, color, style, label in (
        (f"val_{name}", BLUE, "-", "validation"),
        (name, ORANGE, ":", "training"),
    ):
        values = _side_by_side([fold[column] for fold in folds])
        epochs, count = np.arange(1, values.shape[1] + 1), (~np.isnan(values)).sum(axis=0)
        mean = np.nanmean(values, axis=0)
        spread = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / np.maximum(count - 1, 1))
        axes.plot(epochs, mean, color=color, linestyle=style, label=label)
        axes.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.2, lw=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8, ncols=2)
    return figure


def learning_rates(folds: Sequence[Mapping[str, ArrayLike]], title: str) -> Figure:
    """Show the learning rate of each fold over the epochs."""
    figure, axes = _axes(title, "epoch", "learning rate")
    for fold in folds:
        axes.plot(fold["epoch"], fold["learning_rate"], color=BLUE, alpha=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", scilimits=(-2, 2))
    axes.grid(alpha=0.3)
    return figure


def _side_by_side(rows: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return rows of different lengths as one array, what they lack as NaN."""
    arrays = [np.asarray(row, np.float64) for row in rows]
    most = max(map(len, arrays))
    return np.stack([np.pad(row, (0, most - len(row)), constant_values=np.nan) for row in arrays])


def class_curves(
    shown: Sequence[ClassCurve | None],
    labels: Sequence[str],
    title: str,
    names: tuple[str, str],
    *,
    diagonal: bool = False,
) -> Figure:
    """Show a curve of each class, with the area below it.

    Args:
        shown: One for each label; None is left out.
        labels: Names of the classes.
        title: Of the figure.
        names: Of the axes.
        diagonal: Whether to draw what chance gives on a ROC curve.
    """
    figure, axes = _axes(title, *names)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8)
    for number, (curve, label) in enumerate(zip(shown, labels, strict=True)):
        if curve is not None:
            axes.plot(
                curve.x,
                curve.y,
                color=LINES[number % len(LINES)],
                linestyle=_DASHES[number % len(_DASHES)],
                label=f"{label} {curve.area:.3f}",
            )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8, ncols=3)
    return figure


def heat_rows(
    rows: Sequence[Sequence[tuple[NDArray[np.uint8], NDArray[np.float32], str] | None]],
    labels: Sequence[str],
    names: Sequence[str],
    title: str,
) -> Figure:
    """Show images above the same images with heat on them, a column a class.

    Args:
        rows: For each kind of guess an image (H, W) uint8, heat (H, W) from 0 to 1 and a guess
            of each class, or None where there is none.
        labels: The true classes.
        names: Of the rows.
        title: Of the figure.
    """
    figure = _figure(0.4 + len(labels) * 0.95, 0.4 + len(rows) * 2.25)
    figure.suptitle(title, fontsize=11)
    cells = iter(_grid(figure, 2 * len(rows), len(labels)))
    for row, name in zip(rows, names, strict=True):
        upper, lower = ([next(cells) for _ in labels] for _ in range(2))
        upper[0].text(
            -0.15, 0, name, rotation=90, fontsize=9, va="center", transform=upper[0].transAxes
        )
        for cell, label, over, under in zip(row, labels, upper, lower, strict=True):
            if cell is None:
                over.text(0.5, 0.5, "none", ha="center", fontsize=8, transform=over.transAxes)
                over.set_title(label, fontsize=8)
                continue
            image, heat, guess = cell
            said = label if guess == label else f"{label}, said\n{guess}"
            over.set_title(said, fontsize=8)
            for axes in (over, under):
                axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            under.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.55)
    return figure


def embedding(
    points: NDArray[np.float32],
    classes: NDArray[np.int64],
    right: NDArray[np.bool_],
    labels: Sequence[str],
    title: str,
) -> Figure:
    """Show images as points (N, 2), coloured by class; crosses are those classified wrongly."""
    figure = _figure(_WIDTH, 4.6)
    axes = figure.add_subplot()
    for number, label in enumerate(labels):
        color = LINES[number % len(LINES)]
        for chosen, marker in ((right, "o"), (~right, "x")):
            own = points[(classes == number) & chosen]
            axes.scatter(
                own[:, 0],
                own[:, 1],
                9,
                color=color,
                marker=marker,
                linewidths=0.7,
                label=label if marker == "o" else None,
            )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=11)
    figure.legend(loc="outside lower center", fontsize=8, ncols=4, markerscale=1.6)
    return figure


def confusion(matrix: NDArray[Any], labels: Sequence[str], title: str) -> Figure:
    """Show a (K, K) confusion matrix, true classes as rows: shares as percent, or counts."""
    shares = np.asarray(matrix, np.float64)
    is_share = shares.max(initial=0) <= 1
    scale = 1.0 if is_share else max(shares.max(), 1.0)
    figure = _figure(_WIDTH, 4.4)
    axes = figure.add_subplot()
    # Cells as shapes, not as an image, stay sharp at any size.
    axes.pcolormesh(shares / scale, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1)
    for (row, column), value in np.ndenumerate(shares):
        text = f"{value:.0%}" if is_share else f"{value:.0f}"
        color = "white" if value / scale > 0.55 else "black"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=color, fontsize=8)
    ticks = np.arange(len(labels)) + 0.5
    axes.set_xticks(ticks, labels, rotation=40, ha="right")
    axes.set_yticks(ticks, labels)
    axes.invert_yaxis()
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=11)
    axes.tick_params(length=0, labelsize=9)
    return figure


def class_bars(scores: Mapping[str, Sequence[float]], labels: Sequence[str], title: str) -> Figure:
    """Show up to three scores of each class beside one another."""
    figure, axes = _axes(title, "", "")
    width = 0.8 / len(scores)
    for number, (name, values) in enumerate(scores.items()):
        axes.bar(
            np.arange(len(labels)) + (number - (len(scores) - 1) / 2) * width,
            values,
            width,
            label=name,
            color=_SHADES[number],
            edgecolor="black",
            linewidth=0.4,
        )
    axes.set_xticks(np.arange(len(labels)), labels, rotation=30)
    axes.set_ylim(0, 1)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", fontsize=8, ncols=3)
    return figure


def reliability(bins: Sequence[CalibrationBin], title: str) -> Figure:
    """Show accuracy over confidence; dots are as large as their share of the images."""
    figure, axes = _axes(title, "confidence", "accuracy")
    axes.plot([0, 1], [0, 1], color=GRAY, linestyle="--", label="perfectly calibrated")
    confidence = [bin.confidence for bin in bins]
    accuracy = [bin.accuracy for bin in bins]
    axes.plot(confidence, accuracy, color=BLUE, linewidth=1)
    axes.scatter(
        confidence, accuracy, [20 + 400 * bin.share for bin in bins], color=BLUE, label="model"
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8, ncols=2)
    return figure


def precision_recall(
    recall: ArrayLike, precision: ArrayLike, chosen: tuple[float, float, float], title: str
) -> Figure:
    """Show a curve of precision over recall, and the point (recall, precision) of a threshold."""
    figure, axes = _axes(title, "recall", "precision")
    axes.plot(recall, precision, color=BLUE)
    axes.plot(*chosen[:2], "o", color=ORANGE, label=f"threshold {chosen[2]:.2f}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8)
    return figure


def losses(steps: ArrayLike, values: Mapping[str, ArrayLike], title: str) -> Figure:
    """Show parts of a loss over the steps of a training."""
    figure, axes = _axes(title, "step", "loss")
    for (name, own), color, marker in zip(values.items(), COLORS, _MARKERS, strict=False):
        every = max(1, np.size(steps) // 10)
        axes.plot(steps, own, color=color, marker=marker, markevery=every, markersize=4, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", fontsize=8, ncols=len(values))
    return figure


def share_bars(names: Sequence[str], shares: Sequence[float], title: str) -> Figure:
    """Show a share of each of some groups."""
    figure, axes = _axes(title, "", "")
    bars = axes.bar(list(names), list(shares), color=BLUE)
    axes.bar_label(bars, labels=[f"{share:.0%}" for share in shares], fontsize=8)
    axes.set_ylim(0, 1.08)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    return figure


def fold_dots(values: Mapping[str, Sequence[float]], title: str, xlabel: str) -> Figure:
    """Show one score of each fold as a dot for each name, mean and standard deviation as a bar."""
    figure = _figure(_WIDTH, 0.9 + 0.45 * len(values))
    axes = figure.add_subplot()
    for row, of_folds in enumerate(values.values()):
        axes.plot(of_folds, [row] * len(of_folds), "o", color=BLUE, alpha=0.5, markersize=5)
        sd = float(np.std(of_folds, ddof=1)) if len(of_folds) > 1 else 0.0
        axes.errorbar(
            float(np.mean(of_folds)),
            row + 0.22,
            xerr=sd,
            fmt="D",
            color=ORANGE,
            capsize=3,
            markersize=5,
        )
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    _label(axes, title, xlabel, "")
    return figure


def layer_diagram(rows: Sequence[LayerRow], title: str) -> Figure:
    """Show a model's layers as boxes in one column, in the order in which an image passes them."""
    height = 0.36
    figure = _figure(_WIDTH, 0.5 + height * len(rows))
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows), 0)
    axes.set_title(title, fontsize=11)
    for number, row in enumerate(rows):
        box = FancyBboxPatch(
            (0.01, number + 0.12),
            0.98,
            0.7,
            boxstyle="round,pad=0,rounding_size=0.015",
            mutation_aspect=1 / (height * 2),
            facecolor="#DCEBF5" if row.parameters else "#F4F4F4",
            edgecolor="#5A6B78",
            linewidth=0.8,
        )
        axes.add_patch(box)
        middle = number + 0.47
        axes.text(0.03, middle, row.name, va="center", fontsize=8, weight="bold")
        axes.text(0.45, middle, row.kind, va="center", fontsize=7)
        shape = " x ".join("N" if side is None else str(side) for side in row.shape)
        axes.text(0.97, middle, shape, va="center", ha="right", fontsize=8)
        if number:
            axes.annotate(
                "",
                (0.5, number + 0.13),
                (0.5, number - 0.19),
                arrowprops={"arrowstyle": "-|>", "color": "#5A6B78", "shrinkA": 0, "shrinkB": 0},
            )
    return figure


def prediction_page(
    images: Sequence[NDArray[np.uint8]],
    probabilities: Sequence[NDArray[np.float32]],
    labels: Sequence[str],
    titles: Sequence[str],
    true_labels: Sequence[str | None],
) -> Figure:
    """Show pictures, each beside a bar for each emotion's probability.

    Args:
        images: (H, W) grey or (H, W, 3) RGB uint8.
        probabilities: (K,) each.
        labels: K names.
        titles: Of the pictures.
        true_labels: Emotion of each picture where it is known; its bar is hatched.
    """
    columns = min(_PAGE_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    figure = _figure(columns * 3.3, rows * 1.75)
    cells = _grid(figure, rows, 2 * columns, [1, 1.1] * columns)
    for axes in cells[2 * len(images) :]:
        axes.remove()
    pictures = zip(images, probabilities, titles, true_labels, strict=True)
    for number, (image, row, title, true) in enumerate(pictures):
        left, right = cells[2 * number : 2 * number + 2]
        left.imshow(image, cmap="gray", vmin=0, vmax=255)
        left.set_title(_shorten(title), fontsize=7)
        right.set_axis_on()
        bars = right.barh(list(labels), row, color=SKY, edgecolor="white")
        best = int(np.argmax(row))
        # Not its colour as a whole, which would be the hatching's too.
        bars[best].set_facecolor(BLUE)
        if true is not None and true in labels:
            bars[list(labels).index(true)].set(hatch="////", edgecolor=ORANGE)
        right.bar_label(bars, fmt="{:.0%}", fontsize=6, padding=1)
        right.set_xlim(0, 1.2)
        right.invert_yaxis()
        right.set_xticks([])
        right.tick_params(length=0, labelsize=7)
        right.spines[["top", "right", "bottom"]].set_visible(False)
        right.set_title(labels[best] if true is None else f"{labels[best]} (is {true})", fontsize=7)
    return figure


def _figure(width: float, height: float) -> Figure:
    return Figure((width, height), layout="constrained", facecolor="white")


def _axes(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = _figure(_WIDTH, 3.6)
    axes = figure.add_subplot()
    _label(axes, title, xlabel, ylabel)
    return figure, axes


def _label(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _grid(
    figure: Figure, rows: int, columns: int, widths: Sequence[float] | None = None
) -> list[Axes]:
    """Return the axes of a grid, row by row, without frames and ticks."""
    grid = figure.subplots(rows, columns, squeeze=False, width_ratios=widths)
    for axes in grid.flat:
        axes.set_axis_off()
    return list(grid.flat)


def _shorten(text: str, longest: int = 26) -> str:
    return text if len(text) <= longest else "…" + text[-longest + 1 :]
