"""How long a run will take, from a few steps of each model on a few of its images."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer_train.data.folds import Fold
from fer_train.data.load import Dataset
from fer_train.network.device import PREDICTION_BATCH, prediction_batch
from fer_train.run.folder import RunFold
from fer_train.train.fold import FoldTrainer
from fer_train.train.lessons import FeatureLesson
from fer_train.train.progress import format_duration

_IMAGES = 4 * PREDICTION_BATCH
"""Images that are timed, or fewer where there are fewer."""
_ENOUGH_S = 3.0
_MOST_ROUNDS = 5


@dataclass(frozen=True)
class Estimate:
    """The time that the folds of one model take, one after the other in one process.

    Attributes:
        folds: Folds that are left.
        epochs: Epochs of each, where none stops early.
        steps: Steps of an epoch.
        step_s: Seconds of one step.
        compile_s: Seconds of all that is done once for all folds.
        fold_s: Seconds of one fold.
    """

    folds: int
    epochs: int
    steps: int
    step_s: float
    compile_s: float
    fold_s: float

    @property
    def total_s(self) -> float:
        """Seconds of it all."""
        return self.compile_s + self.folds * self.fold_s

    def __str__(self) -> str:
        """Name what is timed and what it comes to."""
        return (
            f"{self.folds} folds of {self.epochs} epochs of {self.steps} steps at "
            f"{1000 * self.step_s:.1f} ms, {format_duration(self.compile_s)} to compile: "
            f"{format_duration(self.total_s)} at most"
        )


def estimate_model(folds: Sequence[RunFold], dataset: Dataset) -> Estimate:
    """Time a few steps of a network; nothing is left in the run folder.

    Args:
        folds: The folds that are left of one model, one or more.
        dataset: All images of their run.
    """
    first = folds[0]
    few = _few_images(first, dataset)
    with tempfile.TemporaryDirectory() as folder:
        run = dataclasses.replace(first.run, folder=Path(folder), store=None)
        count = len(few)
        held = max(1, count // 10)
        split = Fold(0, np.arange(held, count), np.arange(0), np.arange(held))
        trainer = FoldTrainer(RunFold(run, first.model, split), few)
        whole = FoldTrainer(first, dataset)
        recipe, size = trainer.recipe, prediction_batch(trainer.lessons[0].data.images.shape)
        build_s = _seconds(trainer.build)
        compile_s, fold_s, step_s, batch_s, steps = 0.0, 2 * build_s, 0.0, 0.0, 0
        frozen = min(recipe.frozen_epochs, recipe.epochs)
        for number, epochs in enumerate((frozen, recipe.epochs - frozen)):
            if not epochs:
                continue
            lesson = trainer.lessons[number]
            begin_s = _seconds(lambda number=number: trainer.stage(number))  # type: ignore[misc]
            stage = trainer.stage(number)
            if isinstance(lesson, FeatureLesson):
                # The backbone runs once over all images, for all folds.
                compile_s += begin_s * len(dataset) / count
            else:
                fold_s += begin_s
            data = lesson.epoch_data(0)
            here = -(-data.order.size // recipe.batch_size)
            training = stage.training_batches(lesson, data, np.zeros(here, np.float32))
            batches = stage.evaluation_batches(lesson, trainer.held)
            steps = -(-trainer.held.size // size)
            learn = _warm(lambda s=stage, b=training, n=here: s.loops.train(b, 0, n))  # type: ignore[misc]
            evaluation = _warm(lambda s=stage, b=batches, n=steps: s.loops.evaluate(b, 0, n))  # type: ignore[misc]
            compile_s += learn.first_s - learn.later_s + evaluation.first_s - evaluation.later_s
            step_s, batch_s = learn.later_s / here, evaluation.later_s / steps
            steps = -(-whole.lessons[number].size // recipe.batch_size)
            fold_s += epochs * (steps * step_s + -(-whole.held.size // size) * batch_s)
        fold_s += -(-first.split.test.size // size) * batch_s
    return Estimate(len(folds), recipe.epochs, steps, step_s, compile_s, fold_s)


@dataclass(frozen=True)
class _Timing:
    first_s: float
    later_s: float


def _warm(work: Callable[[], Any]) -> _Timing:
    """Time a piece of work, first with what it compiles, then a few times without."""
    first_s = _seconds(work)
    rounds: list[float] = []
    while len(rounds) < _MOST_ROUNDS and sum(rounds) < _ENOUGH_S:
        rounds.append(_seconds(work))
    return _Timing(first_s, float(np.median(rounds)))


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _few_images(fold: RunFold, dataset: Dataset) -> Dataset:
    """Return some of the images that train, and their votes if there are any."""
    chosen = np.zeros(len(dataset), np.bool_)
    chosen[fold.split.train[:_IMAGES]] = True
    return dataset.subset(chosen)
