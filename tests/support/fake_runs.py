"""Run folders as a training leaves them, without a training."""

from pathlib import Path

import numpy as np

from fer_train.data.folds import Fold, make_folds
from fer_train.data.load import Dataset
from fer_train.run.folder import Run, write_text
from fer_train.run.recipes import Protocol, recipe_for

MEASURES = ("accuracy", "loss", "auc", "recall", "precision", "f1")


def make_run(
    folder: Path,
    models: tuple[str, ...] = ("sequential",),
    *,
    folds: int = 3,
    images: int = 140,
    recipe: str = "modern",
    skill: float = 2.0,
    drop: tuple[str, ...] = (),
    seed: int = 0,
) -> Run:
    """Write a complete run whose models are right the more often the higher their ``skill``."""
    protocol = Protocol("synthetic", folds=folds, grouping="none", drop=drop, seed=seed)
    labels = np.arange(images) % len(protocol.labels)
    splits = make_folds(labels, np.arange(images), folds, grouping="none", inner=0.1, seed=seed)
    run = Run(
        folder, protocol, "d" * 64, {name: recipe_for(recipe, name) for name in models}, splits
    )
    run.save()
    for number, model in enumerate(models):
        for fold in splits:
            write_fold(run, model, fold, labels, skill / (number + 1))
    return run


def write_fold(run: Run, model: str, fold: Fold, labels: np.ndarray, skill: float) -> None:
    rng = np.random.default_rng([fold.index, len(model)])
    logits = rng.normal(size=(fold.test.size, len(run.protocol.labels)))
    logits[np.arange(fold.test.size), labels[fold.test]] += skill
    odds = np.exp(logits)
    probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    folder = run.fold(model, fold.index).folder
    names = ["epoch", "learning_rate", *MEASURES, *(f"val_{name}" for name in MEASURES)]
    rows = [[epoch, *rng.uniform(0.2, 0.9, len(names) - 1)] for epoch in (1, 2, 3)]
    lines = [",".join(names), *(",".join(map(str, row)) for row in rows)]
    write_text(folder / "history.csv", "\n".join(lines) + "\n")
    facts = {"penalty": 0.25, "kept_epoch": 2, "epochs": 3, "parameters": 123}
    facts |= {"training_s": 5.0 + fold.index, "evaluation_s": 0.5}
    facts |= {"device": "tensorflow on cpu:0", "dtype_policy": "float32"}
    run.fold(model, fold.index).write_results(
        made_dataset(labels, run.protocol.labels), probabilities, facts
    )


def made_dataset(labels: np.ndarray, names: tuple[str, ...]) -> Dataset:
    """Return black images with labels, as the runs of this module have them."""
    count = len(labels)
    images = np.zeros((count, 48, 48), np.uint8)
    files = np.asarray(
        [f"train/{names[label]}/{number}.jpg" for number, label in enumerate(labels)]
    )
    return Dataset(images, labels, np.full(count, "Training"), files, names)
