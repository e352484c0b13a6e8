"""The scores that a training ends with, on the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fer_train.run.folder import Run


def _test_rows(score: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each test set of a fold, and the same without copies, with its scores."""
    for name, own in score.get("tests", {}).items():
        if own["copies"] == own["images"]:
            name = f"{name}, each of which has a copy outside"
        yield name, own
        if "without_copies" in own:
            title = f"{name} without the {own['copies']:,} that have a copy outside"
            yield title, own["without_copies"]


def print_scores(runs: "Sequence[Run]", models: Sequence[str]) -> None:
    """Print the scores of each fold, what they are worth, and the spread of several seeds."""
    from fer_train.report.compare import model_names, seed_blocks
    from fer_train.report.document import to_text
    from fer_train.run.evaluation import evaluate_model

    evaluations = [evaluate_model(run, model) for model in models for run in runs]
    titles = model_names(evaluations)
    for evaluation in evaluations:
        names = ["accuracy", "binary_accuracy", "balanced_accuracy", "log_loss", "f1_macro"]
        scores = [fold.score for fold in evaluation.folds]
        # Where votes are known.
        names += ["agreement"] if all("agreement" in score for score in scores) else []
        title = titles[id(evaluation)]
        width = max(12, len(title) + 1)
        click.echo(f"{title:{width}}" + "".join(f"{name:>20}" for name in (*names, "training_s")))
        rows: dict[str, list[str]] = {}
        for index, score in enumerate(scores):
            shown = [f"{score[name]:.4f}" for name in names]
            rows[f"fold {index}"] = [*shown, f"{score['training_s']:.0f}"]
            for test, own in _test_rows(score):
                cells = [f"{own[name]:.4f}" if name in own else "-" for name in names]
                rows[f"  fold {index}, {test}, {own['images']:,} images"] = cells
        if len(scores) > 1:
            spreads = [evaluation.spread(name) for name in names]
            rows["mean +- sd"] = [f"{mean:.4f} +- {sd:.4f}" for mean, sd in spreads]
        intervals = [evaluation.intervals.get(name) for name in names]
        rows["95 %"] = [f"{each.low:.4f} to {each.high:.4f}" if each else "" for each in intervals]
        for baseline in evaluation.baselines:
            rows[baseline.name] = [f"{baseline.merged[name]:.4f}" for name in names]
        for row, cells in rows.items():
            if len(row) >= width:
                click.echo(row)
                row = ""
            click.echo(f"{row:{width}}" + "".join(f"{cell:>20}" for cell in cells))
    if blocks := seed_blocks(evaluations, titles):
        click.echo(to_text(blocks), nl=False)
