"""A model and the compiled trainings of its stages, which serve one fold after the other."""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_train.network._keras import keras
from fer_train.network.device import on_accelerator, prediction_batch
from fer_train.network.loops import Batches, Loops, filled, make_loops
from fer_train.network.models import backbone_of, fold_normalization
from fer_train.run.recipes import Recipe
from fer_train.train.lessons import EpochData, Lesson

_REPORT_S = 1.0
"""Seconds of steps that run without a report."""


class Stage:
    """What is compiled of one lesson: its network, the optimizer, the loops over batches.

    Args:
        net: The model.
        lesson: What it is taught; of the same settings for all folds that this stage serves.
        recipe: Settings.

    Attributes:
        network: What is trained, with the model inside.
        optimizer: Its optimizer; the learning rate is set by each step.
        loops: The compiled loops.
        pace: Steps that run in about a second.
    """

    def __init__(self, net: keras.Model, lesson: Lesson, recipe: Recipe) -> None:
        """Build the network and the optimizer; what is compiled is so when it first runs."""
        self.network = lesson.network(net)
        self.optimizer = _optimizer(recipe)
        self.optimizer.build(self.network.trainable_variables)
        cross_entropy = keras.losses.CategoricalCrossentropy(label_smoothing=lesson.label_smoothing)
        weight = lesson.loss_weight
        self.loops: Loops = make_loops(
            self.network,
            self.optimizer,
            lambda targets, outputs, weights: weight * cross_entropy(targets, outputs, weights),
            recipe.batch_size,
            prediction_batch(lesson.data.images.shape),
            xla=self._suits_xla(on_accelerator() or lesson.suits_xla),
            whole=on_accelerator(),
        )
        self.pace = 2

    def _suits_xla(self, wanted: bool) -> bool:
        """Tell whether XLA is wanted and has all operations of the network, as Keras sees it."""
        with warnings.catch_warnings():
            # What it cannot compile, it runs as it is.
            warnings.simplefilter("ignore")
            self.network.compile(self.optimizer, jit_compile=wanted)
        return bool(self.network.jit_compile)

    def run(
        self,
        loop: Callable[[Batches, int, int], tuple[float, NDArray[np.float32]]],
        batches: Batches,
        steps: int,
        watch: Callable[[float, int], None] = lambda loss, done: None,
    ) -> tuple[float, NDArray[np.float32]]:
        """Run a loop over batches, a second or so at a time.

        Args:
            loop: `Loops.train` or `Loops.evaluate` of this stage.
            batches: Its data.
            steps: How many.
            watch: Called about once a second with the losses' sum and the steps done.

        Returns:
            The mean loss, and the outputs for all rows of these batches.
        """
        done, total, outputs = 0, 0.0, []
        while done < steps:
            start, stop = time.perf_counter(), min(done + self.pace, steps)
            loss, found = loop(batches, done, stop)
            total += loss
            outputs.append(found)
            pace = (stop - done) * _REPORT_S / (time.perf_counter() - start)
            self.pace = max(2, round(pace))
            done = stop
            watch(total, done)
        return total / steps, np.concatenate(outputs)

    @property
    def variables(self) -> list[Any]:
        """All that training changes, and the images."""
        return [*self.network.variables, *self.optimizer.variables]

    def training_batches(
        self, lesson: Lesson, data: EpochData, rates: NDArray[np.float32]
    ) -> Batches:
        """Return an epoch's data on the device; the last batch is filled up with the first one."""
        arrays = (data.inputs, data.targets, data.weights, rates)
        return self.loops.put(filled(*arrays, rows=lesson.most, size=self.loops.size))

    def evaluation_batches(self, lesson: Lesson, numbers: NDArray[np.int64]) -> Batches:
        """Return images on the device whose mean loss is that of the batches that hold them."""
        size = self.loops.evaluation_size
        rows = -(-numbers.size // size) * size
        # Those that fill up the last batch count nothing.
        shares = np.zeros(rows, np.float32)
        shares[: numbers.size] = rows / numbers.size
        repeated = numbers[np.arange(rows) % numbers.size]
        arrays = (lesson.inputs_of(repeated, shares), lesson.data.truth[repeated], shares)
        most = max(len(lesson.data.images), rows)
        return self.loops.put(filled(*arrays, np.empty(0, np.float32), rows=most, size=size))


@dataclass
class CompiledModel:
    """A model that is trained fold after fold.

    Attributes:
        net: The model; None before the first fold.
        stages: What is compiled of each stage so far.
        final: The model as it is evaluated, in float32; with a second one, into which batch
            normalisation is folded, where the recipe asks for it.
        proven: Whether its losses have been numbers in its precision.
    """

    net: keras.Model | None = None
    stages: dict[int, Stage] = field(default_factory=dict)
    final: list[keras.Model] = field(default_factory=list)
    proven: bool = False

    def begin(self, fresh: keras.Model) -> keras.Model:
        """Return the model with the weights and random states of one that was just built."""
        if self.net is None:
            self.net = fresh
        else:
            _copy(fresh.variables, self.net.variables)
        return self.net

    def stage(self, number: int, lesson: Lesson, recipe: Recipe) -> Stage:
        """Return a stage as at its first step: 0 with the model's backbone frozen, or 1."""
        if self.net is None:
            raise ValueError("Expected a model that has begun, received none")
        if recipe.frozen_epochs:
            backbone_of(self.net).trainable = number == 1
        fresh = Stage(self.net, lesson, recipe)
        kept = self.stages.setdefault(number, fresh)
        if kept is not fresh:
            _copy(fresh.variables, kept.variables)
        return kept

    def finished(
        self,
        build: Callable[[Recipe], keras.Model],
        recipe: Recipe,
        weights: Sequence[NDArray[Any]],
    ) -> keras.Model:
        """Return the model that is exported, with weights of the one that was trained.

        Args:
            build: Builds the model of a recipe.
            recipe: The recipe of the training.
            weights: What the training ended with.
        """
        if not self.final:
            # All weights come from the checkpoint: no need to fetch pretrained ones again.
            recipe = replace(recipe, weights="none")
            self.final.append(build(recipe))
            if recipe.normalization == "batch":
                published = replace(recipe, normalization="none")
                self.final.append(build(published))
        self.final[0].set_weights(weights)
        if len(self.final) > 1:
            fold_normalization(*self.final)
        return self.final[-1]


def _copy(source: Iterable[Any], target: Iterable[Any]) -> None:
    for new, old in zip(source, target, strict=True):
        if new is not old:
            old.assign(new)


def _optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    if recipe.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(recipe.learning_rate, weight_decay=recipe.weight_decay)
        # Decay pulls kernels alone: a scale or bias near 0 is no simpler a function.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    kinds = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
    return kinds[recipe.optimizer](recipe.learning_rate)
