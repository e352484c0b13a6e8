"""Evaluated runs -> a document: tables and pictures, the thesis's figures beside ours."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_train.data.load import Dataset
from fer_train.network.architecture import saved_layer_rows
from fer_train.report import plots
from fer_train.report.compare import (
    NONE,
    SCORES,
    ScoreColumn,
    difference_blocks,
    folds_done,
    format_score,
    format_spread,
    model_names,
    score_blocks,
    score_columns,
    seed_blocks,
)
from fer_train.report.document import (
    Block,
    Document,
    Folded,
    Gallery,
    Heading,
    Picture,
    Table,
    Text,
)
from fer_train.report.images import image_blocks
from fer_train.report.thesis import REFERENCE, Published, published
from fer_train.report.usages import usage_blocks
from fer_train.report.votes import vote_blocks
from fer_train.run.evaluation import ModelEvaluation, predictions_csv, run_names
from fer_train.run.folder import RESULTS, Run, read_json
from fer_train.run.metrics import (
    calibration,
    normalise_confusion,
    precision_recall_curves,
    roc_curves,
)
from fer_train.run.model_file import code_digest
from fer_train.run.recipes import Recipe, settings_of
from fer_train.run.record import device_seconds, results_csv, wall_seconds
from fer_train.run.reproduce import training_command

_THESIS_SCORES = {
    "binary_accuracy": "binary accuracy",
    "accuracy": "top-1",
    "loss": "loss",
    "recall_at_half": "recall at 0.5",
    "precision_at_half": "precision at 0.5",
    "f1_at_half": "F1 at 0.5",
}
_MEANING = (
    "`top-1` is the share of images whose likeliest emotion is the data set's label. "
    "`binary accuracy` is what the thesis prints as accuracy: the share of the one-hot labels of "
    "each image on the right side of 0.5. Predicting nothing at all scores {nothing} there, so "
    "that the two must "
    'never be compared with one another. Recall, precision and F1 "at 0.5" count a prediction only '
    "above 0.5; all others take the likeliest emotion. Calibration error is the mean gap between "
    "confidence and accuracy."
)


def build_report(
    evaluations: Sequence[ModelEvaluation],
    load_images: Callable[[Run], Dataset] | None = None,
) -> Document:
    """Make the report of models of one run or several.

    Args:
        evaluations: At least one.
        load_images: What loads the images of a run; without it the report shows none.
    """
    names = model_names(evaluations)
    columns = score_columns(evaluations, names)
    blocks: list[Block] = [
        Text(
            "Facial emotion recognition by cross-validation. The thesis is "
            f"{REFERENCE}; its rows are what it prints."
        ),
        *_overview(evaluations, names, columns),
        *vote_blocks(columns),
        *usage_blocks(evaluations, [names[id(evaluation)] for evaluation in evaluations]),
        *seed_blocks(evaluations, names),
        *difference_blocks(evaluations, names),
        *_settings(evaluations, names),
    ]
    loaded: dict[Path, Dataset] = {}
    for evaluation in evaluations:
        if load_images is not None and evaluation.run.folder not in loaded:
            # Of one run at a time: data sets are large.
            loaded = {evaluation.run.folder: load_images(evaluation.run)}
        dataset = loaded.get(evaluation.run.folder)
        blocks += _model_section(evaluation, names[id(evaluation)], dataset)
    predictions = {
        f"{_file_name(names[id(each)])}-predictions.csv": predictions_csv(
            each.predictions, each.labels
        )
        for each in evaluations
    }
    results = {RESULTS: results_csv(evaluations, run_names(evaluations))}
    return Document("Facial emotion models: report", blocks, predictions | results)


def _nothing(evaluations: Sequence[ModelEvaluation]) -> str:
    """Return the binary accuracy of predicting nothing, for each number of emotions."""
    counts = sorted({len(evaluation.labels) for evaluation in evaluations})
    return " or ".join(f"{count - 1}/{count} = {1 - 1 / count:.2%}" for count in counts)


def _file_name(name: str) -> str:
    return name.replace(": ", "-").replace("/", "-")


def _overview(
    evaluations: Sequence[ModelEvaluation],
    names: Mapping[int, str],
    columns: Sequence[ScoreColumn],
) -> list[Block]:
    dots = plots.fold_dots(
        {names[id(evaluation)]: evaluation.values("accuracy") for evaluation in evaluations},
        "top-1 of each fold, mean ± sd",
        "top-1",
    )
    return [
        Heading("Scores"),
        Text(_MEANING.format(nothing=_nothing(evaluations))),
        *score_blocks(columns),
        Gallery([Picture("folds", "Dots: top-1 of each fold of each model", plots.to_svg(dots))]),
        Heading("Beside the thesis"),
        Table(
            "What the thesis prints, and the same measures of ours",
            ["model", "folds", *_THESIS_SCORES.values(), "epochs", "seconds per fold"],
            [
                row
                for evaluation in evaluations
                for row in _thesis_rows(evaluation, names[id(evaluation)])
            ],
        ),
        Text(
            "Loss is the evaluation loss with the L2 penalty of the weights. The thesis's top-1 is "
            "that of the one fold whose classification report it prints, and its seconds are those "
            "of one GPU."
        ),
    ]


def _thesis_rows(evaluation: ModelEvaluation, name: str) -> list[list[str]]:
    ours = [
        name,
        folds_done(evaluation),
        *(_spread(evaluation, measure) for measure in _THESIS_SCORES),
        _common(evaluation, "epochs"),
        _spread(evaluation, "training_s"),
    ]
    return [ours, *map(_published_row, published(evaluation.model))]


def _published_row(entry: Published) -> list[str]:
    accuracy = f"{entry.binary_accuracy:.2%}"
    if entry.sd is not None:
        accuracy += f" ± {entry.sd * 100:.2f}"
    return [
        f"- thesis, {entry.form}",
        str(len(entry.fold_accuracy) or 1),
        accuracy,
        f"{entry.accuracy:.2%}",
        f"{entry.loss:.3f}",
        *(f"{value:.2%}" for value in (entry.recall, entry.precision, entry.f1)),
        str(entry.epochs),
        NONE if entry.seconds is None else f"{entry.seconds:.0f}",
    ]


def _settings(evaluations: Sequence[ModelEvaluation], names: Mapping[int, str]) -> list[Block]:
    runs = {evaluation.run.folder.resolve(): evaluation.run for evaluation in evaluations}
    described = [_describe_run(run) for run in runs.values()]
    # Two rows are of models of one's own alone.
    own = any(each.recipe.code for each in evaluations)
    fields = [
        field.name
        for field in dataclasses.fields(Recipe)
        if own or field.name not in ("model_file", "code")
    ]
    return [
        Heading("Settings"),
        Table(
            "Data and folds",
            ["setting", *run_names(evaluations).values()],
            [[key, *(run[key] for run in described)] for key in described[0]],
        ),
        Table(
            "Recipes",
            ["setting", *(names[id(evaluation)] for evaluation in evaluations)],
            [[field, *(_setting(each, field) for each in evaluations)] for field in fields]
            + [
                [key, *(_common(each, key) for each in evaluations)]
                for key in ("parameters", "device", "dtype_policy")
            ],
        ),
        _records(evaluations, names),
        *(Text(f"{names[id(each)]}: `{_command(each)}`") for each in evaluations),
        Text(
            "Wall time is that of all sittings of the folds, device time that of their epochs and "
            "evaluation. `results.csv` has a row for each fold; `record.json` in each fold's "
            "folder has host, command and versions of each sitting."
        ),
    ]


def _records(evaluations: Sequence[ModelEvaluation], names: Mapping[int, str]) -> Table:
    described = [_describe_training(evaluation) for evaluation in evaluations]
    rows = dict.fromkeys(key for each in described for key in each)
    return Table(
        "What trained them",
        ["record", *(names[id(evaluation)] for evaluation in evaluations)],
        [[key, *(each.get(key, NONE) for each in described)] for key in rows],
    )


def _describe_training(evaluation: ModelEvaluation) -> dict[str, str]:
    folds = evaluation.folds
    sittings = [sitting for fold in folds for sitting in fold.record]
    walls = [seconds for fold in folds if (seconds := wall_seconds(fold)) is not None]
    packages = dict.fromkeys(name for sitting in sittings for name in sitting["versions"])
    return {
        "begun": min((sitting["started"] for sitting in sittings), default=NONE),
        "wall time, s": f"{sum(walls):,.0f}" if len(walls) == len(folds) else NONE,
        "device time, s": f"{sum(map(device_seconds, folds)):,.0f}",
        "git commit": _each_once(sitting["package_commit"] for sitting in sittings),
        **{
            name: _each_once(sitting["versions"].get(name) for sitting in sittings)
            for name in packages
        },
    }


def _command(evaluation: ModelEvaluation) -> str:
    return training_command(evaluation.run.protocol, evaluation.model, evaluation.recipe)


def _each_once(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(_plain(value) for value in values)) or NONE


def _setting(evaluation: ModelEvaluation, field: str) -> str:
    if field == "code" and evaluation.recipe.code:
        return code_digest(evaluation.recipe.code)[:16]
    if field not in settings_of(evaluation.model):
        return NONE
    return _plain(getattr(evaluation.recipe, field))


def _describe_run(run: Run) -> dict[str, str]:
    protocol = run.protocol
    sizes = {
        part: [getattr(fold, part).size for fold in run.folds]
        for part in ("train", "inner", "test")
    }
    return {
        # Where it lay is the affair of the machine that trained.
        "data set": Path(protocol.data).name,
        "digest": run.dataset_digest[:16],
        "image size": f"{protocol.form.side} x {protocol.form.side}",
        "colours": protocol.form.spec.color,
        "limit": _plain(protocol.limit),
        "pool": protocol.pool,
        "classes": ", ".join(protocol.labels),
        "labels map": ", ".join(protocol.labels_map) or "none",
        "left out": ", ".join(protocol.drop) or "nothing",
        "folds": str(len(run.folds)),
        "grouping": protocol.grouping,
        "groups": "none" if run.groups is None else f"{np.unique(run.groups).size:,}",
        "steer": protocol.steer,
        "votes": Path(protocol.votes).name if protocol.votes else "none",
        "inner share": _plain(protocol.inner),
        "seed": str(protocol.seed),
        **{
            f"{part} images a fold": _span([float(size) for size in values])
            for part, values in sizes.items()
        },
        "fer-edge": str(read_json(run.folder / "config.json")["package_version"]),
    }


def _model_section(evaluation: ModelEvaluation, name: str, dataset: Dataset | None) -> list[Block]:
    key = _file_name(name)
    merged = evaluation.merged
    labels = evaluation.labels
    predictions = evaluation.predictions
    pictures = [
        Picture(
            f"{key}-confusion",
            f"{name}: average confusion matrix, normalised by true class",
            plots.to_svg(
                plots.confusion(evaluation.mean_confusion, labels, f"{name}: average over folds")
            ),
        ),
        Picture(
            f"{key}-confusion-counts",
            f"{name}: confusion matrix of all held-out images, counts",
            plots.to_svg(
                plots.confusion(np.asarray(merged["confusion"]), labels, f"{name}: all images")
            ),
        ),
        Picture(
            f"{key}-classes", f"{name}: scores of each emotion", _class_svg(merged, labels, name)
        ),
        Picture(
            f"{key}-calibration",
            f"{name}: accuracy over confidence",
            plots.to_svg(
                plots.reliability(
                    calibration(predictions.labels, predictions.probabilities),
                    f"{name}: calibration",
                )
            ),
        ),
    ]
    pictures += _curve_pictures(evaluation, name, key)
    blocks: list[Block] = [
        Heading(name),
        _fold_table(evaluation),
        _merged_report(evaluation),
        Gallery(pictures),
    ]
    if dataset is not None:
        blocks += image_blocks(evaluation, dataset, name, key)
    keras_file = evaluation.folds[0].keras_file
    if keras_file.is_file():  # what is not a network has no layers to show
        rows = saved_layer_rows(keras_file, evaluation.recipe)
        total = sum(row.parameters for row in rows)
        diagram = plots.layer_diagram(rows, f"{name}: {total:,} parameters")
        alt = f"{name}: layers in order, with names and output shapes"
        picture = Picture(f"{key}-layers", alt, plots.to_svg(diagram))
        blocks.append(Folded("Layers", [Gallery([picture])]))
    if entries := [entry for entry in published(evaluation.model) if entry.fold_accuracy]:
        blocks.append(
            Folded("Fold by fold beside the thesis", [_thesis_folds(evaluation, entries[0])])
        )
    blocks += [_fold_section(evaluation, number, key) for number in range(len(evaluation.folds))]
    return blocks


def _curve_pictures(evaluation: ModelEvaluation, name: str, key: str) -> list[Picture]:
    """Show the curves of all folds together, and those of the classes."""
    labels, predictions = evaluation.labels, evaluation.predictions
    roc = roc_curves(predictions.labels, predictions.probabilities)
    precision = precision_recall_curves(predictions.labels, predictions.probabilities)
    figures = {
        f"{name}: ROC curve of each emotion against the rest, all folds merged": (
            "roc",
            plots.class_curves(
                roc,
                labels,
                f"{name}: ROC, area",
                ("false positive rate", "true positive rate"),
                diagonal=True,
            ),
        ),
        f"{name}: precision over recall of each emotion against the rest, all folds merged": (
            "precision-recall",
            plots.class_curves(
                precision,
                labels,
                f"{name}: precision-recall, average precision",
                ("recall", "precision"),
            ),
        ),
    }
    trained = [fold.curves for fold in evaluation.folds if fold.curves]
    if len(trained) > 1:
        for measure in ("accuracy", "loss"):
            figures[f"{name}: {measure} over the epochs, mean and sd over the folds"] = (
                f"mean-{measure}",
                plots.mean_curves(trained, measure, f"{name}: {measure}, mean ± sd of folds"),
            )
    if trained and all("learning_rate" in each for each in trained):
        figures[f"{name}: learning rate over the epochs"] = (
            "learning-rate",
            plots.learning_rates(trained, f"{name}: learning rate"),
        )
    return [
        Picture(f"{key}-{stem}", alt, plots.to_svg(figure))
        for alt, (stem, figure) in figures.items()
    ]


def _fold_table(evaluation: ModelEvaluation) -> Table:
    columns = {**SCORES, "loss": "loss", "training_s": "training s", "evaluation_s": "evaluation s"}
    rows = [
        [
            f"fold {fold.index}",
            str(fold.score["images"]),
            _plain(fold.score.get("kept_epoch")),
            *(format_score(name, fold.score.get(name)) for name in columns),
        ]
        for fold in evaluation.folds
    ]
    spreads = [_spread(evaluation, name) for name in columns]
    rows.append(["mean ± sd", "", "", *spreads])
    return Table("Each fold", ["fold", "images", "kept epoch", *columns.values()], rows)


def _merged_report(evaluation: ModelEvaluation) -> Table:
    caption = "Classification report, all folds merged"
    beside: dict[str, list[str]] = {}
    entry = next((entry for entry in published(evaluation.model) if entry.report), None)
    if entry:
        caption += "; the thesis's is of one fold"
        scores = [entry.of_class(emotion) for emotion in evaluation.labels]
        beside = {
            f"thesis {title}": [f"{getattr(row, name):.2f}" if row else NONE for row in scores]
            for name, title in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
        }
    return class_report(evaluation.merged, evaluation.labels, caption, beside)


def class_report(
    scores: Mapping[str, Any],
    labels: Sequence[str],
    caption: str,
    beside: Mapping[str, Sequence[str]] | None = None,
) -> Table:
    """Make the usual table of precision, recall and F1.

    Args:
        scores: From `classification_metrics`.
        labels: Names of the classes.
        caption: Of the table.
        beside: More columns: title -> one cell a class.
    """
    names = ("precision", "recall", "f1")
    columns = beside or {}
    rows = [
        [
            label,
            *(f"{scores[name][number]:.2f}" for name in names),
            f"{scores['support'][number]:,}",
            *(column[number] for column in columns.values()),
        ]
        for number, label in enumerate(labels)
    ]
    images, none = f"{scores['images']:,}", [""] * len(columns)
    for average in ("macro", "weighted"):
        values = [f"{scores[f'{name}_{average}']:.2f}" for name in names]
        rows.append([f"{average} average", *values, images, *none])
    rows.append(["top-1", "", "", f"{scores['accuracy']:.2f}", images, *none])
    return Table(caption, ["emotion", "precision", "recall", "F1", "images", *columns], rows)


def _thesis_folds(evaluation: ModelEvaluation, entry: Published) -> Table:
    ours = {fold.index: fold.score for fold in evaluation.folds}

    def cell(index: int, name: str) -> str:
        return format_score(name, ours[index].get(name)) if index in ours else NONE

    rows = [
        [
            f"fold {index}",
            cell(index, "binary_accuracy"),
            cell(index, "loss"),
            f"{accuracy:.2%}",
            f"{loss:.3f}",
        ]
        for index, (accuracy, loss) in enumerate(
            zip(entry.fold_accuracy, entry.fold_loss, strict=True)
        )
    ]
    return Table(
        "Binary accuracy and loss; the thesis's folds hold other images than ours",
        ["fold", "binary accuracy", "loss", "thesis binary accuracy", "thesis loss"],
        rows,
    )


def _fold_section(evaluation: ModelEvaluation, number: int, key: str) -> Folded:
    fold = evaluation.folds[number]
    title = f"{evaluation.model}, fold {fold.index}"
    stem = f"{key}-fold-{fold.index:02d}"
    labels = evaluation.labels
    pictures = []
    for names in (("accuracy",), ("loss",), ("auc", "recall", "precision", "f1")):
        if fold.curves:
            what = ", ".join(names)
            figure = plots.curves(fold.curves, names, f"{title}: {what}")
            pictures.append(
                Picture(
                    f"{stem}-{names[0]}",
                    f"{title}: {what} over the epochs, training and validation",
                    plots.to_svg(figure),
                )
            )
    counts = np.asarray(fold.score["confusion"])
    pictures += [
        Picture(
            f"{stem}-confusion",
            f"{title}: confusion matrix normalised by true class",
            plots.to_svg(plots.confusion(normalise_confusion(counts), labels, title)),
        ),
        Picture(
            f"{stem}-classes",
            f"{title}: scores of each emotion",
            _class_svg(fold.score, labels, title),
        ),
    ]
    report = class_report(fold.score, labels, f"Classification report of {title}")
    top = format_score("accuracy", fold.score["accuracy"])
    return Folded(f"Fold {fold.index}: top-1 {top}", [Gallery(pictures), report])


def _class_svg(scores: Mapping[str, Any], labels: Sequence[str], title: str) -> bytes:
    shown = {name: scores[name] for name in ("precision", "recall", "f1")}
    return plots.to_svg(plots.class_bars(shown, labels, title))


def _spread(evaluation: ModelEvaluation, name: str) -> str:
    return format_spread(name, [fold.score for fold in evaluation.folds])


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _common(evaluation: ModelEvaluation, name: str) -> str:
    """Return what the folds say of themselves, each fact once."""
    return _each_once(fold.score.get(name) for fold in evaluation.folds)


def _plain(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, int):
        return f"{value:,}"
    return Path(value).name if isinstance(value, str) and value.startswith("/") else str(value)
