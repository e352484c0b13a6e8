"""Evaluated runs -> a document: tables and pictures, the thesis's figures beside ours."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_train.network.architecture import saved_layer_rows
from fer_train.report import plots
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
from fer_train.report.thesis import REFERENCE, Published, published
from fer_train.report.votes import vote_blocks
from fer_train.run.evaluation import (
    MIN_TEST_FOLDS,
    Comparison,
    ModelEvaluation,
    compare_models,
    predictions_csv,
)
from fer_train.run.folder import Run, read_json
from fer_train.run.metrics import calibration, normalise_confusion
from fer_train.run.recipes import Recipe, settings_of

NONE = "-"

SCORES = {
    "accuracy": "top-1",
    "balanced_accuracy": "balanced accuracy",
    "binary_accuracy": "binary accuracy",
    "log_loss": "log-loss",
    "auc_macro": "AUC",
    "precision_macro": "precision, macro",
    "recall_macro": "recall, macro",
    "f1_macro": "F1, macro",
    "precision_weighted": "precision, weighted",
    "recall_weighted": "recall, weighted",
    "f1_weighted": "F1, weighted",
    "expected_calibration_error": "calibration error",
}
_THESIS_SCORES = {
    "binary_accuracy": "binary accuracy",
    "accuracy": "top-1",
    "loss": "loss",
    "recall_at_half": "recall at 0.5",
    "precision_at_half": "precision at 0.5",
    "f1_at_half": "F1 at 0.5",
}
_NOT_SHARES = ("log_loss", "auc_macro", "loss")

_MEANING = (
    "`top-1` is the share of images whose likeliest emotion is the data set's label. "
    "`binary accuracy` is what the thesis prints as accuracy: the share of the one-hot labels of "
    "each image on the right side of 0.5. Predicting nothing at all scores {nothing} there, so "
    "that the two must "
    'never be compared with one another. Recall, precision and F1 "at 0.5" count an answer only '
    "above 0.5; all others take the likeliest emotion. Calibration error is the mean gap between "
    "confidence and accuracy."
)
_SPREAD = (
    'Scores are means over the folds, ± their sample standard deviation (ddof 1). "All folds '
    "merged\" scores the out-of-fold predictions of all images together. The thesis's standard "
    "deviations are those of the population (ddof 0), as its per-fold figures show."
)


def build_report(evaluations: Sequence[ModelEvaluation]) -> Document:
    """Make the report of models of one run or several.

    Args:
        evaluations: At least one.
    """
    names = _names(evaluations)
    blocks: list[Block] = [
        Text(
            "Facial emotion recognition by cross-validation. The thesis is "
            f"{REFERENCE}; its rows are what it prints."
        ),
        *_overview(evaluations, names),
        *vote_blocks(evaluations, [names[id(evaluation)] for evaluation in evaluations]),
        *_differences(compare_models(evaluations), names, len(evaluations)),
        *_settings(evaluations, names),
    ]
    for evaluation in evaluations:
        blocks += _model_section(evaluation, names[id(evaluation)])
    predictions = {
        f"{_file_name(names[id(each)])}-predictions.csv": predictions_csv(
            each.predictions, each.labels
        )
        for each in evaluations
    }
    return Document("Facial emotion models: report", blocks, predictions)


def _nothing(evaluations: Sequence[ModelEvaluation]) -> str:
    """Return the binary accuracy of predicting nothing, for each number of emotions."""
    counts = sorted({len(evaluation.labels) for evaluation in evaluations})
    return " or ".join(f"{count - 1}/{count} = {1 - 1 / count:.2%}" for count in counts)


def _names(evaluations: Sequence[ModelEvaluation]) -> dict[int, str]:
    """Name each model, with its run where there are several."""
    runs = _run_names(evaluations)
    if len(runs) == 1:
        return {id(evaluation): evaluation.model for evaluation in evaluations}
    return {
        id(evaluation): f"{runs[evaluation.run.folder.resolve()]}: {evaluation.model}"
        for evaluation in evaluations
    }


def _run_names(evaluations: Sequence[ModelEvaluation]) -> dict[Path, str]:
    """Name each run by its folder, with as many of those above it as tell it from the others."""
    folders = list(dict.fromkeys(each.run.folder.resolve() for each in evaluations))
    parts = 1
    while len({folder.parts[-parts:] for folder in folders}) < len(folders):
        parts += 1
    return {folder: "/".join(folder.parts[-parts:]).lstrip("/") for folder in folders}


def _file_name(name: str) -> str:
    return name.replace(": ", "-").replace("/", "-")


def _overview(evaluations: Sequence[ModelEvaluation], names: Mapping[int, str]) -> list[Block]:
    header = ["score", *(names[id(evaluation)] for evaluation in evaluations)]
    dots = plots.fold_dots(
        {names[id(evaluation)]: evaluation.values("accuracy") for evaluation in evaluations},
        "top-1 of each fold, mean ± sd",
        "top-1",
    )
    return [
        Heading("Scores"),
        Text(_MEANING.format(nothing=_nothing(evaluations))),
        Table(
            "Scores over the folds",
            header,
            [
                ["recipe", *(evaluation.recipe.name for evaluation in evaluations)],
                ["folds", *map(_folds_done, evaluations)],
                *_score_rows(evaluations, {**SCORES, "training_s": "training, s"}),
            ],
        ),
        Text(_SPREAD),
        Table(
            "Scores of all folds merged",
            header,
            [
                ["images", *(f"{evaluation.merged['images']:,}" for evaluation in evaluations)],
                *(
                    [title, *(format_score(name, each.merged[name]) for each in evaluations)]
                    for name, title in SCORES.items()
                ),
            ],
        ),
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


def _score_rows(
    evaluations: Sequence[ModelEvaluation], measures: Mapping[str, str]
) -> list[list[str]]:
    return [
        [title, *(_spread(evaluation, name) for evaluation in evaluations)]
        for name, title in measures.items()
    ]


def _thesis_rows(evaluation: ModelEvaluation, name: str) -> list[list[str]]:
    ours = [
        name,
        _folds_done(evaluation),
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


def _differences(
    comparisons: Sequence[Comparison], names: Mapping[int, str], models: int
) -> list[Block]:
    if models < 2:
        return []
    blocks: list[Block] = [Heading("Which models differ")]
    if not comparisons:
        return [*blocks, Text("No two models were judged on the same folds: nothing is paired.")]
    rows = []
    for pair in comparisons:
        cells = [NONE] * 5
        if pair.test is not None and pair.p_adjusted is not None:
            test = pair.test
            points = f"{test.difference * 100:+.2f}"
            cells = [
                str(test.folds),
                points,
                f"{test.t:.2f}",
                f"{test.p:.4f}",
                f"{pair.p_adjusted:.4f}",
            ]
        rows.append([f"{names[id(pair.first)]} - {names[id(pair.second)]}", *cells, pair.verdict])
    return [
        *blocks,
        Table(
            "Paired tests on top-1 over the folds",
            ["models", "folds", "difference, points", "t", "p", "p, adjusted", "at 5 %"],
            rows,
        ),
        Text(
            "The test is the corrected resampled t-test (Nadeau and Bengio, Inference for the "
            "Generalization Error, Machine Learning 52, 2003), which allows for the overlap of the "
            "folds' training images; p is adjusted for the number of tests (Holm). Only models "
            f"judged on the same folds of the same data are paired. With fewer than "
            f"{MIN_TEST_FOLDS} folds no finding is not a finding of equality."
        ),
    ]


def _settings(evaluations: Sequence[ModelEvaluation], names: Mapping[int, str]) -> list[Block]:
    runs = {evaluation.run.folder.resolve(): evaluation.run for evaluation in evaluations}
    described = [_describe_run(run) for run in runs.values()]
    fields = [field.name for field in dataclasses.fields(Recipe)]
    return [
        Heading("Settings"),
        Table(
            "Data and folds",
            ["setting", *_run_names(evaluations).values()],
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
    ]


def _setting(evaluation: ModelEvaluation, field: str) -> str:
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
        "limit": _plain(protocol.limit),
        "pool": protocol.pool,
        "classes": ", ".join(protocol.labels),
        "labels map": ", ".join(protocol.labels_map) or "none",
        "left out": ", ".join(protocol.drop) or "nothing",
        "folds": str(len(run.folds)),
        "grouping": protocol.grouping,
        "votes": Path(protocol.votes).name if protocol.votes else "none",
        "inner share": _plain(protocol.inner),
        "seed": str(protocol.seed),
        **{
            f"{part} images a fold": _span([float(size) for size in values])
            for part, values in sizes.items()
        },
        "fer-edge": str(read_json(run.folder / "config.json")["package_version"]),
    }


def _model_section(evaluation: ModelEvaluation, name: str) -> list[Block]:
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
            f"{name}: confusion matrix of all judged images, counts",
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
    blocks: list[Block] = [
        Heading(name),
        _fold_table(evaluation),
        _merged_report(evaluation),
        Gallery(pictures),
    ]
    keras_file = evaluation.folds[0].keras_file
    if keras_file.is_file():  # what is not a network has no layers to show
        rows = saved_layer_rows(keras_file)
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


def _fold_table(evaluation: ModelEvaluation) -> Table:
    columns = {**SCORES, "loss": "loss", "training_s": "training s", "evaluation_s": "judging s"}
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


def _folds_done(evaluation: ModelEvaluation) -> str:
    done, planned = len(evaluation.folds), len(evaluation.run.folds)
    return str(done) if done == planned else f"{done} of {planned}"


def format_score(name: str, value: float | None) -> str:
    """Write a score as percent, or as a number where it is none; a dash where there is none."""
    if value is None or np.isnan(value):
        return NONE
    if name in ("training_s", "evaluation_s"):
        return f"{value:.1f}"
    return f"{value:.4f}" if name in _NOT_SHARES else f"{value:.2%}"


def _spread(evaluation: ModelEvaluation, name: str) -> str:
    if any(name not in fold.score for fold in evaluation.folds):
        return NONE
    mean, sd = evaluation.spread(name)
    text = format_score(name, mean)
    return text if sd is None else f"{text} ± {format_score(name, sd).rstrip('%')}"


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _common(evaluation: ModelEvaluation, name: str) -> str:
    """Return what the folds say of themselves, each answer once."""
    found = dict.fromkeys(_plain(fold.score.get(name)) for fold in evaluation.folds)
    return ", ".join(found)


def _plain(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, int):
        return f"{value:,}"
    return Path(value).name if isinstance(value, str) and value.startswith("/") else str(value)
