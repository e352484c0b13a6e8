"""One fold: train, checkpoint, resume, evaluate. Back-end neutral: Keras 3 alone.

The images lie on the device once, as a table; the batches that travel are image numbers. Epochs
are run one at a time, each followed by an atomic checkpoint that holds everything the next epoch
depends on, so that a killed fold goes on where it was.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import DataError, DivergedError
from fer_train.data.load import Dataset
from fer_train.data.votes import vote_targets
from fer_train.network._keras import keras
from fer_train.network.device import (
    PREDICTION_BATCH,
    choose_precision,
    describe_device,
    on_accelerator,
)
from fer_train.network.models import BACKBONE, build_model, fold_normalization
from fer_train.run.folder import (
    LOCK,
    RunFold,
    locked,
    write_atomic,
    write_curves,
)
from fer_train.run.recipes import Recipe
from fer_train.run.usages import usage_scores
from fer_train.run.votes import agreement, counted
from fer_train.train.checkpoints import Checkpoints, restore
from fer_train.train.curves import (
    History,
    PredictionBuffer,
    curve_scores,
    plateau_rate,
    stops_early,
)
from fer_train.train.lessons import choose_lessons


@dataclass(frozen=True)
class Progress:
    """Where a fold stands; sent after each batch and each epoch.

    Attributes:
        epoch: Epoch that runs or has just ended, from 1.
        epochs: Epochs planned.
        images: Training images seen of this epoch.
        images_total: Training images of an epoch.
        row: The history row of an epoch that has just ended, else None.
    """

    epoch: int
    epochs: int
    images: int
    images_total: int
    row: dict[str, float] | None = None


Report = Callable[[Progress], None]


class FoldTrainer:
    """Trains one fold of one model in its folder.

    Args:
        fold: The fold.
        dataset: All images of its run, labels in the order of the protocol's.

    Attributes:
        lessons: What is taught while the backbone is frozen, and after that.
        held: Numbers of the images that steer training.
    """

    def __init__(self, fold: RunFold, dataset: Dataset) -> None:
        """Take the parts and choose the lessons; nothing is built or written yet.

        Raises:
            DataError: There are votes, but for no image that steers training.
            RunError: The run has lost the answers that teach it.
        """
        self.fold, self.dataset, self.recipe = fold, dataset, fold.recipe
        self.labels = fold.run.protocol.labels
        self.lessons = choose_lessons(fold, dataset)
        self.held = fold.split.validation
        if dataset.votes is not None:
            # By the test set, where it steers, or by an older split: its votes may say nothing.
            self.held = self.held[vote_targets(dataset.votes, self.labels).trains[self.held]]
            if not self.held.size:
                raise DataError(
                    f"Expected votes for images that steer {fold}, received none; use a larger "
                    "--limit or --inner"
                )
        self.checkpoints = Checkpoints(fold.folder, self.recipe.keep == "best")

    @property
    def device(self) -> str:
        """Back end, devices and precision, such as ``tensorflow on cpu:0, float32``."""
        return f"{describe_device()}, {choose_precision(self.recipe.precision)}"

    def train(self, report: Report = lambda progress: None) -> dict[str, Any]:
        """Train to the end, from the last checkpoint if there is one, and evaluate the model.

        Returns:
            What metrics.json holds.

        Raises:
            RunError: Another process trains this fold, or the folder cannot be written.
            DivergedError: The loss is no number any more; the fold is as if it had not begun.
        """
        with locked(self.fold.folder / LOCK):
            if not self.fold.is_done:
                try:
                    self._train_epochs(report)
                except DivergedError:
                    self._delete_begun()
                    self.fold.history_file.unlink(missing_ok=True)
                    raise
                self._finish()
            return self.fold.score

    def build(self) -> keras.Model:
        """Return the model before its first epoch; what the fold before left in memory goes."""
        keras.backend.clear_session()
        keras.utils.set_random_seed(self.lessons[0].data.seed)
        keras.config.set_dtype_policy(choose_precision(self.recipe.precision))
        return build_model(self.fold.model, self.recipe, len(self.labels), fused=True)

    def compile(self, net: keras.Model, stage: int) -> keras.Model:
        """Return the compiled training of a model in a stage: 0 with its backbone frozen, or 1."""
        lesson, recipe = self.lessons[stage], self.recipe
        net.get_layer(BACKBONE).trainable = stage == 1
        trained = lesson.network(net)
        first = 0 if stage == 0 else recipe.frozen_epochs
        end = recipe.frozen_epochs if stage == 0 else recipe.epochs
        steps = -(-lesson.size // recipe.batch_size)
        # A new one: Keras empties it before an epoch only once it knows it.
        self._predictions = PredictionBuffer(
            max(lesson.size, self.held.size), lesson.data.truth.shape[1]
        )
        trained.compile(
            optimizer=_optimizer(recipe, steps, end - first),
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=lesson.label_smoothing),
            loss_weights=None if lesson.loss_weight == 1 else [lesson.loss_weight],
            metrics=[self._predictions],
            jit_compile=keras.backend.backend() == "jax" or on_accelerator() or lesson.suits_xla,
        )
        trained.optimizer.build(trained.trainable_variables)
        return trained

    def run_epoch(
        self,
        trained: keras.Model,
        stage: int,
        history: History,
        report: Report = lambda progress: None,
    ) -> dict[str, float]:
        """Train the epoch that follows ``history``; return its row: learning rate and scores."""
        start = time.perf_counter()
        epoch, recipe, lesson = len(history), self.recipe, self.lessons[stage]
        if recipe.schedule == "plateau":
            rate = plateau_rate(history, recipe.learning_rate)
            trained.optimizer.learning_rate = rate
        else:
            rate = float(keras.ops.convert_to_numpy(trained.optimizer.learning_rate))
        data = lesson.epoch_data(epoch)

        class BatchReport(keras.callbacks.Callback):  # type: ignore[misc]
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                seen = min((batch + 1) * recipe.batch_size, data.order.size)
                report(Progress(epoch + 1, recipe.epochs, seen, data.order.size))

        logs = trained.fit(
            data.inputs,
            data.targets,
            sample_weight=data.weights,
            batch_size=recipe.batch_size,
            shuffle=False,
            verbose=0,
            callbacks=[BatchReport()],
        ).history
        row = {"epoch": float(epoch + 1), "learning_rate": rate, "loss": float(logs["loss"][-1])}
        self._check_loss(epoch + 1, row["loss"])
        row |= self._scores(data.order)
        logs = trained.evaluate(
            lesson.inputs_of(self.held),
            lesson.data.truth[self.held],
            batch_size=PREDICTION_BATCH,
            verbose=0,
            return_dict=True,
        )
        self._check_loss(epoch + 1, float(logs["loss"]))
        scores = {"loss": float(logs["loss"])} | self._scores(self.held)
        row |= {f"val_{name}": value for name, value in scores.items()}
        return row | {"seconds": time.perf_counter() - start}

    def _scores(self, numbers: NDArray[Any]) -> dict[str, float]:
        """Score the answers that the buffer holds, which are those to the images of ``numbers``."""
        one_hot = np.eye(len(self.labels), dtype=np.float32)
        answers = self._predictions.take()
        scores = curve_scores(one_hot[self.dataset.labels[numbers]], answers)
        votes = None if self.dataset.votes is None else self.dataset.votes[numbers]
        if votes is not None and counted(votes, self.labels).any():
            scores["agreement"] = agreement(votes, self.labels, answers.argmax(axis=1))
        return scores

    def _check_loss(self, epoch: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"Expected a loss that is a number, received {loss} in epoch {epoch} of "
                f"{self.fold}; plan a run with a lower --learning-rate, or with --precision "
                "float32, in another --run folder"
            )

    def _train_epochs(self, report: Report) -> None:
        net = self.build()
        history, state = self.checkpoints.latest()
        for row in history:
            # Those of before the loss was watched.
            self._check_loss(int(row["epoch"]), row["loss"] + row["val_loss"])
        trained, stage = None, -1
        while len(history) < self.recipe.epochs and not stops_early(history, self.recipe):
            if trained is None or stage != self._stage(len(history)):
                stage = self._stage(len(history))
                trained = self.compile(net, stage)
                if state:
                    # A new stage starts a new optimizer; within a stage all of it goes on.
                    same = stage == self._stage(len(history) - 1)
                    restore(net, trained if same else None, state)
                    state = {}
            history.append(self.run_epoch(trained, stage, history, report))
            self.checkpoints.save(net, trained, history)
            write_curves(self.fold.history_file, history)
            images = self.lessons[stage].size
            report(Progress(len(history), self.recipe.epochs, 0, images, history[-1]))

    def _stage(self, epoch: int) -> int:
        """Return 0 while the backbone is frozen, 1 from then on; ``epoch`` counts from 0."""
        return int(epoch >= self.recipe.frozen_epochs)

    def _finish(self) -> None:
        """Evaluate the kept weights in float32, as the exported model computes; write it all."""
        fold, split = self.fold, self.fold.split
        history, kept, weights = self.checkpoints.kept()
        keras.config.set_dtype_policy("float32")
        # All weights come from the checkpoint: no need to fetch pretrained ones again.
        recipe = replace(self.recipe, weights="none")
        net = build_model(self.fold.model, recipe, len(self.labels))
        net.set_weights(weights)
        if recipe.normalization == "batch":
            published = replace(recipe, normalization="none")
            plain = build_model(self.fold.model, published, len(self.labels))
            fold_normalization(net, plain)
            net = plain
        start = time.perf_counter()
        lesson = self.lessons[self._stage(self.recipe.epochs - 1)]
        probabilities = lesson.predict(net, split.test)
        facts: dict[str, Any] = {
            "penalty": float(sum(keras.ops.convert_to_numpy(loss) for loss in net.losses)),
            "kept_epoch": kept,
            "epochs": len(history),
            "parameters": net.count_params(),
            "training_images": int(split.train.size),
            "prior": lesson.prior(),
            "training_s": sum(row["seconds"] for row in history),
            "evaluation_s": time.perf_counter() - start,
            "device": describe_device(),
            "dtype_policy": choose_precision(self.recipe.precision),
        }
        write_atomic(fold.keras_file, net.save)
        write_curves(fold.history_file, history)
        by_public = fold.run.protocol.steer == "PublicTest"
        steering = lesson.predict(net, split.inner) if by_public else None
        facts |= usage_scores(fold, self.dataset, probabilities, steering)
        fold.write_results(self.dataset, probabilities, facts)
        self._delete_begun()

    def _delete_begun(self) -> None:
        """Delete what only an unfinished training needs."""
        self.checkpoints.delete()
        for path in self.fold.folder.glob("view-*.npz"):
            path.unlink()


def _optimizer(recipe: Recipe, steps: int, epochs: int) -> keras.optimizers.Optimizer:
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        warmup = min(int(recipe.warmup_epochs * steps), steps * epochs // 2)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else recipe.learning_rate,
            max(steps * epochs - warmup, 1),
            warmup_target=recipe.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if recipe.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
        # Decay pulls kernels alone: a scale or bias near 0 is no simpler a function.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    return {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[recipe.optimizer](rate)
