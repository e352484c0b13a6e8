"""One fold: train, checkpoint, resume, evaluate. Back-end neutral: Keras 3 alone.

The images lie on the device once, as a table; what travels is an epoch's image numbers. Steps run
about a second long for one call from Python. Each epoch is followed by an atomic checkpoint that
holds everything the next epoch depends on, so that a killed fold goes on where it was. What was
compiled for one fold serves the next one of the same model.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import DataError, DivergedError
from fer_train.data.load import Dataset
from fer_train.data.votes import vote_targets
from fer_train.network._keras import keras
from fer_train.network.device import choose_precision, describe_device, keep_programs
from fer_train.network.models import build_model
from fer_train.run.folder import (
    HISTORY,
    LOCK,
    PROGRAMS,
    RECORD,
    RunFold,
    delete_half_written,
    locked,
    write_atomic,
    write_curves,
)
from fer_train.run.recipes import Recipe
from fer_train.run.usages import usage_scores
from fer_train.train.checkpoints import Checkpoints, restore
from fer_train.train.curves import History, dataset_scores, epoch_rates, stops_early
from fer_train.train.lessons import choose_lessons
from fer_train.train.stages import CompiledModel, Stage

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a fold stands; sent about once a second and after each epoch.

    Attributes:
        epoch: Epoch that runs or has just ended, from 1.
        epochs: Epochs planned.
        images: Training images seen of this epoch.
        images_total: Training images of an epoch.
        row: The history row of an epoch that has just ended, else None.
        checkpoint: Bytes and seconds of the last checkpoint written, if there is one.
    """

    epoch: int
    epochs: int
    images: int
    images_total: int
    row: dict[str, float] | None = None
    checkpoint: tuple[int, float] | None = None


Report = Callable[[Progress], None]


class FoldTrainer:
    """Trains one fold of one model in its folder.

    Args:
        fold: The fold.
        dataset: All images of its run, labels in the order of the protocol's.
        before: The trainer of the fold before in this process. If it is of the same model and run,
            what it has compiled serves this one, and it must train no more.

    Attributes:
        lessons: What is taught while the backbone is frozen, and after that.
        held: Numbers of the images that steer training.
        precision: The Keras dtype policy of the training.
    """

    def __init__(self, fold: RunFold, dataset: Dataset, before: object = None) -> None:
        """Take the parts and choose the lessons; nothing is built or written yet.

        Raises:
            DataError: There are votes, but for no image that steers training.
            RunError: The run has lost the predictions that teach it.
        """
        self.fold, self.dataset, self.recipe = fold, dataset, fold.recipe
        self.labels = fold.run.protocol.labels
        self.lessons = choose_lessons(fold, dataset)
        self.held = _steering(fold, dataset)
        self.checkpoints = Checkpoints(fold.folder, self.recipe.keep == "best")
        self.precision = choose_precision(self.recipe.precision)
        self.compiled = CompiledModel()
        if isinstance(before, FoldTrainer) and (before.fold.run.folder, before.fold.model) == (
            fold.run.folder,
            fold.model,
        ):
            self.precision, self.compiled = before.precision, before.compiled

    @property
    def device(self) -> str:
        """Back end, devices and precision, such as ``tensorflow on cpu:0, float32``."""
        return f"{describe_device()}, {self.precision}"

    def train(
        self,
        report: Report = lambda progress: None,
        written: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Train to the end, from the last checkpoint if there is one, and evaluate the model.

        Args:
            report: Called with what a person may want to see.
            written: Called after each checkpoint, in a thread beside the training.

        Returns:
            What metrics.json holds.

        Raises:
            RunError: Another process trains this fold, or the folder cannot be written.
            DivergedError: The loss is no number any more; the fold is as if it had not begun.
        """
        with locked(self.fold.folder / LOCK):
            if not self.fold.is_done:
                delete_half_written(self.fold.folder)
                keep_programs(self.fold.run.folder / PROGRAMS)
                self.checkpoints.written = written
                try:
                    self._train_in_precision(report)
                except DivergedError:
                    self._delete_begun()
                    for name in (HISTORY, RECORD):
                        (self.fold.folder / name).unlink(missing_ok=True)
                    raise
                self._finish()
            return self.fold.score

    def build(self) -> keras.Model:
        """Return the model before its first epoch."""
        if self.compiled.net is None:
            # Later TensorFlow would prepare again what it has compiled.
            keras.backend.clear_session()
        keras.utils.set_random_seed(self.lessons[0].data.seed)
        keras.config.set_dtype_policy(self.precision)
        return self.compiled.begin(self._model(self.recipe, fused=True))

    def stage(self, number: int) -> Stage:
        """Return a stage of training as at its first step: 0 with the backbone frozen, or 1."""
        return self.compiled.stage(number, self.lessons[number], self.recipe)

    def run_epoch(
        self, stage: Stage, history: History, report: Report = lambda progress: None
    ) -> dict[str, float]:
        """Train the epoch that follows ``history``; return its row: learning rate and scores."""
        start = time.perf_counter()
        row = {"epoch": float(len(history) + 1)}
        row |= self.train_epoch(stage, history, report)
        lesson, held = self.lessons[self._stage(len(history))], self.held
        batches = stage.evaluation_batches(lesson, held)
        steps = -(-held.size // stage.loops.evaluation_size)
        loss, outputs = stage.run(stage.loops.evaluate, batches, steps)
        self._check_loss(len(history) + 1, loss)
        scores = {"loss": loss} | dataset_scores(self.dataset, held, outputs)
        row |= {f"val_{name}": value for name, value in scores.items()}
        self.compiled.proven = True
        return row | {"seconds": time.perf_counter() - start}

    def train_epoch(
        self,
        stage: Stage,
        history: History,
        report: Report = lambda progress: None,
    ) -> dict[str, float]:
        """Do the training of `run_epoch` alone; return that part of the row."""
        epoch, recipe = len(history), self.recipe
        lesson = self.lessons[self._stage(epoch)]
        data = lesson.epoch_data(epoch)
        steps = -(-data.order.size // recipe.batch_size)
        rates = epoch_rates(recipe, history, steps)

        def watch(loss: float, done: int) -> None:
            self._check_loss(epoch + 1, loss)
            seen = min(done * recipe.batch_size, data.order.size)
            report(Progress(epoch + 1, recipe.epochs, seen, data.order.size))

        batches = stage.training_batches(lesson, data, rates)
        loss, outputs = stage.run(stage.loops.train, batches, steps, watch)
        row = {"learning_rate": float(rates[0]), "loss": loss}
        return row | dataset_scores(self.dataset, data.order, outputs)

    def _check_loss(self, epoch: int, loss: float) -> None:
        if math.isfinite(loss):
            return
        chosen = self.recipe.precision == "auto" and self.precision != "float32"
        if chosen and not self.compiled.proven:
            raise _UnfitPrecisionError
        raise DivergedError(
            f"Expected a loss that is a number, received {loss} in epoch {epoch} of "
            f"{self.fold}; plan a run with a lower --learning-rate, or with --precision "
            "float32, in another --run folder"
        )

    def _train_in_precision(self, report: Report) -> None:
        """Train the epochs; in float32 where the precision that was chosen gives no numbers."""
        try:
            self._train_epochs(report)
        except _UnfitPrecisionError:
            _log.warning(
                "The first steps of %s gave no number in %s; it is trained in float32",
                self.fold,
                self.precision,
            )
            self.precision, self.compiled = "float32", CompiledModel()
            self._train_epochs(report)

    def _train_epochs(self, report: Report) -> None:
        net = self.build()
        history, state = self.checkpoints.latest()
        for row in history:
            # Those of before the loss was watched.
            self._check_loss(int(row["epoch"]), row["loss"] + row["val_loss"])
        stage, number = None, -1
        with self.checkpoints:
            while len(history) < self.recipe.epochs and not stops_early(history, self.recipe):
                if stage is None or number != self._stage(len(history)):
                    number = self._stage(len(history))
                    stage = self.stage(number)
                    if state:
                        # A new stage starts a new optimizer; within a stage all of it goes on.
                        same = number == self._stage(len(history) - 1)
                        restore(net, stage if same else None, state)
                        state = {}
                history.append(self.run_epoch(stage, history, report))
                self.checkpoints.save(net, stage, history)
                write_curves(self.fold.history_file, history)
                last = self.checkpoints.last
                images = self.lessons[number].size
                report(Progress(len(history), self.recipe.epochs, 0, images, history[-1], last))

    def _stage(self, epoch: int) -> int:
        """Return 0 while the backbone is frozen, 1 from then on; ``epoch`` counts from 0."""
        return int(epoch >= self.recipe.frozen_epochs)

    def _finish(self) -> None:
        """Evaluate the kept weights in float32, as the exported model computes; write it all."""
        fold, split = self.fold, self.fold.split
        history, kept, weights = self.checkpoints.kept()
        keras.config.set_dtype_policy("float32")
        net = self.compiled.finished(self._model, self.recipe, weights)
        start = time.perf_counter()
        lesson = self.lessons[self._stage(self.recipe.epochs - 1)]
        probabilities = lesson.predict(net, split.test)
        facts: dict[str, Any] = {
            "penalty": _weight_penalty(net),
            "kept_epoch": kept,
            "epochs": len(history),
            "parameters": net.count_params(),
            "training_images": int(split.train.size),
            "prior": lesson.prior(),
            "training_s": sum(row["seconds"] for row in history),
            "evaluation_s": time.perf_counter() - start,
            "device": describe_device(),
            "dtype_policy": self.precision,
        }
        write_atomic(fold.keras_file, net.save)
        write_curves(fold.history_file, history)
        by_public = fold.run.protocol.steer == "PublicTest"
        steering = lesson.predict(net, split.inner) if by_public else None
        facts |= usage_scores(fold, self.dataset, probabilities, steering)
        fold.write_results(self.dataset, probabilities, facts)
        self._delete_begun()

    def _model(self, recipe: Recipe, *, fused: bool = False) -> keras.Model:
        form = self.fold.run.protocol.form
        return build_model(self.fold.model, recipe, len(self.labels), form, fused=fused)

    def _delete_begun(self) -> None:
        """Delete what only an unfinished training needs."""
        self.checkpoints.delete()
        for path in self.fold.folder.glob("view-*.npz"):
            path.unlink()


def _weight_penalty(net: keras.Model) -> float:
    """Return what the weights add to the loss; what layers add when called is none of it."""
    return float(
        sum(
            keras.ops.convert_to_numpy(weight.regularizer(weight))
            for weight in net.trainable_weights
            if weight.regularizer
        )
    )


def _steering(fold: RunFold, dataset: Dataset) -> NDArray[np.int64]:
    """Return the numbers of the images that steer training: those that votes say something of."""
    held = fold.split.validation
    if dataset.votes is None:
        return held
    # By the test set, where it steers, or by an older split: its votes may say nothing.
    held = held[vote_targets(dataset.votes, fold.run.protocol.labels).trains[held]]
    if not held.size:
        raise DataError(
            f"Expected votes for images that steer {fold}, received none; use a larger --limit or "
            "--inner"
        )
    return held


class _UnfitPrecisionError(Exception):
    """The precision that was chosen gives no numbers on this device."""
