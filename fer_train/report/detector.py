"""A detector's run -> a document: its scores, curves, and pictures with boxes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_edge.errors import RunError
from fer_train.report import plots
from fer_train.report.document import Block, Document, Gallery, Heading, Picture, Table, Text
from fer_train.run.folder import CONFIG, DONE, HISTORY, read_curves, read_json

_LOSSES = ("scores", "boxes", "points")
_SETTINGS_OF_NOTE = ("steps", "batch", "rate", "mine_at", "size", "turned", "turn", "largest")


def build_detector_report(folder: Path) -> Document:
    """Report on a detector's run that is done.

    Args:
        folder: The run folder; see `fer_train.detection.run`.

    Raises:
        RunError: The run is not done, or a file of it is damaged.
    """
    if not (folder / DONE).is_file():
        raise RunError(
            f"Expected a detector's run that is done in {folder}; start its fer-train detector "
            "command again: it goes on where it was"
        )
    config, metrics = read_json(folder / CONFIG), read_json(folder / DONE)
    blocks = [*_training(folder, config, metrics)]
    if "faces" in metrics:
        blocks = [*_scores(folder, metrics), *_sizes(metrics), *_turned(metrics), *blocks]
        blocks += _examples(folder)
    else:
        blocks.append(Text("No pictures were kept back, so that nothing was evaluated."))
    return Document(f"Face detector {folder.resolve().name}", blocks)


def _scores(folder: Path, metrics: Mapping[str, Any]) -> list[Block]:
    threshold = metrics["threshold"]
    rows = [
        [
            f"{row['threshold']:.2f}" + (" (chosen)" if row["threshold"] == threshold else ""),
            _share(row["recall"]),
            _share(row["precision"]),
            f"{row['false_empty']:,}",
            f"{row['false_elsewhere']:,}",
        ]
        for row in metrics["at"]
    ]
    chosen = next(row for row in metrics["at"] if row["threshold"] == threshold)
    curve = read_curves(folder / "curve.csv")
    figure = plots.precision_recall(
        curve["recall"],
        curve["precision"],
        (chosen["recall"] or 0.0, chosen["precision"] or 0.0, threshold),
        "Precision and recall",
    )
    return [
        Heading("Scores"),
        Text(
            f"Evaluated on {metrics['pictures']:,} pictures with {metrics['faces']:,} faces "
            f"({metrics['evaluated_on']}), {metrics['empty']:,} of them without a face. A box "
            "finds a face when they overlap by 0.4; boxes on ignored regions count neither way. "
            "The threshold is chosen where at most one false box comes in twenty pictures "
            "without a face. The area under the curve is "
            f"{metrics['average_precision'] or 0:.4f}."
        ),
        Table(
            "By threshold",
            ["threshold", "found", "precision", "false, no face there", "false elsewhere"],
            rows,
        ),
        Gallery(
            [
                Picture(
                    "precision-recall",
                    f"Precision falls as recall rises; at {threshold:.2f} recall is "
                    f"{_share(chosen['recall'])}",
                    plots.to_svg(figure),
                )
            ]
        ),
    ]


def _sizes(metrics: Mapping[str, Any]) -> list[Block]:
    names = [
        f"from {row['from']:g}" if row["below"] is None else f"{row['from']:g}-{row['below']:g}"
        for row in metrics["sizes"]
    ]
    recalls = [row["recall"] for row in metrics["sizes"]]
    rows = [
        [name, f"{row['faces']:,}", _share(row["recall"])]
        for name, row in zip(names, metrics["sizes"], strict=True)
    ]
    return [
        Heading("By size"),
        Table("Side of the face in pixels, the root of its area", ["side", "faces", "found"], rows),
        _bars("recall-by-size", names, recalls, "Found, by side in pixels"),
    ]


def _turned(metrics: Mapping[str, Any]) -> list[Block]:
    rows = [
        [f"{row['degrees']:g}", _share(row["found"]), _share(row["of_upright"])]
        for row in metrics["turned"]
    ]
    if all(row["found"] is None for row in metrics["turned"]):
        return []
    names = [row[0] for row in rows]
    return [
        Heading("By tilt"),
        Text("Pictures with one face of 28 pixels or more, turned whole."),
        Table(
            "Degrees of turning",
            ["degrees", "found", "found, of those found upright"],
            rows,
        ),
        _bars(
            "recall-by-tilt",
            names,
            [row["of_upright"] for row in metrics["turned"]],
            "Still found, by degrees of turning",
        ),
    ]


def _bars(name: str, names: Sequence[str], values: Sequence[float | None], title: str) -> Gallery:
    spoken = ", ".join(
        f"{label}: {_share(value)}" for label, value in zip(names, values, strict=True)
    )
    figure = plots.share_bars(names, [value or 0.0 for value in values], title)
    return Gallery([Picture(name, f"{title}: {spoken}", plots.to_svg(figure))])


def _training(folder: Path, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[Block]:
    history = read_curves(folder / HISTORY)
    recipe = config["recipe"]
    rows = [
        ["steps", f"{metrics['steps']:,}"],
        ["tiles", f"{metrics['tiles']:,}"],
        ["minutes", f"{metrics['training_s'] / 60:.1f}"],
        ["parameters", f"{metrics['parameters']:,}"],
        ["device", f"{metrics['device']}, {metrics['dtype_policy']}"],
        ["data", ", ".join(config["data"])],
        *[[name, str(recipe[name])] for name in _SETTINGS_OF_NOTE if name not in ("steps",)],
    ]
    figure = plots.losses(
        history["step"], {name: history[name] for name in _LOSSES}, "Losses of the training"
    )
    last = ", ".join(f"{name} {history[name][-1]:.3f}" for name in _LOSSES)
    return [
        Heading("Training"),
        Table("What it is made of; config.json has every setting", ["", "value"], rows),
        Gallery(
            [Picture("losses", f"Losses over the steps; at the end {last}", plots.to_svg(figure))]
        ),
    ]


def _examples(folder: Path) -> list[Block]:
    pictures = [
        Picture(
            f"example-{path.stem}",
            "A picture with boxes: found green, false orange, missed blue and broken",
            path.read_bytes(),
        )
        for path in sorted((folder / "examples").glob("*.png"))
    ]
    if not pictures:
        return []
    return [
        Heading("Pictures"),
        Text(
            "Found faces are green, false boxes orange, each with its score; missed faces are blue "
            "and broken. First the pictures with the most faults, then some of the others."
        ),
        Gallery(pictures),
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
