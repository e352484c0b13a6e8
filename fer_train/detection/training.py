"""Training of the detector: tiles, network, loss and a running mean of the weights in one step.

Nothing but a step's number crosses from the processor to the device. The learning rate follows a
cosine over the time that the training is given, so that it ends learnt out, on whatever machine.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_train.detection.loss import LossWeights, detection_loss
from fer_train.detection.network import named_weights
from fer_train.detection.tiles import TileMaker
from fer_train.network._keras import keras

ops = keras.ops

_WARM_UP_STEPS = 200


@dataclass(frozen=True)
class DetectorSettings:
    """How a detector is trained.

    Attributes:
        batch: Tiles in a step.
        rate: The highest learning rate, of AdamW.
        end_rate: The last one, as a share of it.
        decay: Weight decay, of convolutions.
        mean: Share of the running mean of the weights that a step keeps.
        weights: Of the loss's parts.
        round_steps: Steps between two changes of the rate.
    """

    batch: int = 256
    rate: float = 2e-3
    end_rate: float = 0.01
    decay: float = 0.03
    mean: float = 0.9985
    weights: LossWeights = field(default_factory=LossWeights)
    round_steps: int = 25


class DetectorTraining(keras.Model):  # type: ignore[misc]
    """A network with the tiles that it learns from and the running mean of its weights."""

    def __init__(self, network: keras.Model, tiles: TileMaker, settings: DetectorSettings) -> None:
        """Take the network, what makes its tiles, and the settings; compiled for a fit."""
        super().__init__(name="detector_training")
        self.network, self.tiles, self.settings = network, tiles, settings
        self.steps = self.add_weight(name="steps", shape=(), initializer="zeros", trainable=False)
        self.means = [
            self.add_weight(
                name=f"mean_{number}",
                shape=weight.shape,
                initializer="zeros",
                trainable=False,
                autocast=False,
            )
            for number, (_, weight) in enumerate(named_weights(network))
        ]
        for mean, (_, weight) in zip(self.means, named_weights(network), strict=True):
            mean.assign(ops.convert_to_numpy(weight).copy())
        self.parts = [keras.metrics.Mean(name=name) for name in ("scores", "boxes", "points")]
        optimizer = keras.optimizers.AdamW(
            settings.rate, weight_decay=settings.decay, global_clipnorm=5.0
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        self.compile(optimizer=optimizer, loss=None, jit_compile="auto")

    def call(self, step: Any, training: bool | None = None) -> list[Any]:
        """Make the step's tiles and answer them: the network's maps, then what the tiles hold."""
        tiles, rows = self.tiles(step)
        return [*self.network(tiles, training=training), rows]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss of a step, and keep the running mean of the weights."""
        *maps, rows = y_pred
        maps = [ops.cast(cell, "float32") for cell in maps]
        weights = self.settings.weights
        losses = detection_loss(maps, rows, weights)
        for metric, loss in zip(self.parts, losses, strict=True):
            metric.update_state(loss)
        if training:
            self._update_means()
        return losses[0] + weights.box * losses[1] + weights.points * losses[2]

    def _update_means(self) -> None:
        steps = self.steps + 1
        # The first steps weigh more, or the mean would hold on to where they began.
        keep = ops.minimum(self.settings.mean, steps / (steps + 50))
        self.steps.assign(steps)
        for mean, (_, weight) in zip(self.means, named_weights(self.network), strict=True):
            mean.assign(keep * mean + (1 - keep) * ops.cast(weight, "float32"))

    def begin_again(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        """Go back to a running mean of the weights, and forget the optimizer's state."""
        for mean, (name, weight) in zip(self.means, named_weights(self.network), strict=True):
            weight.assign(arrays[name].copy())
            mean.assign(arrays[name].copy())
        for variable in self.optimizer.variables:
            if variable is not self.optimizer.learning_rate:
                variable.assign(np.zeros(variable.shape, str(variable.dtype)))

    def mean_weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the running mean of the weights by name, as `network.load_weights` takes them."""
        names = (name for name, _ in named_weights(self.network))
        return {
            name: ops.convert_to_numpy(mean).copy()
            for name, mean in zip(names, self.means, strict=True)
        }


def train(
    training: DetectorTraining,
    seconds: float,
    report: Callable[[str], None],
    keep: Callable[[dict[str, NDArray[np.float32]]], None],
    *,
    steps: int | None = None,
    report_s: float = 15.0,
    keep_s: float = 60.0,
) -> int:
    """Train for a time, and return the number of steps.

    Args:
        training: What is trained.
        seconds: Time for it, from now, compilation included.
        report: Takes a line of text now and then.
        keep: Takes the weights now and then, and at the end.
        steps: End after so many steps, whatever the time; None for no end but the time.
        report_s: Seconds between two reports.
        keep_s: Seconds between two copies of the weights.
    """
    pace = _Pace(training, seconds, report, keep, steps, report_s, keep_s)
    settings = training.settings
    # One number a tile: Keras wants the input's length to be the batch's.
    numbers = np.zeros((settings.batch * settings.round_steps, 1), np.float32)
    training.fit(
        numbers,
        batch_size=settings.batch,
        epochs=10**6,
        shuffle=False,
        verbose=0,
        callbacks=[pace],
    )
    keep(training.mean_weights())
    return pace.done


class _Pace(keras.callbacks.Callback):  # type: ignore[misc]
    """Sets the rate by the time that is left, reports, keeps the weights, and ends."""

    def __init__(
        self,
        training: DetectorTraining,
        seconds: float,
        report: Callable[[str], None],
        keep: Callable[[dict[str, NDArray[np.float32]]], None],
        steps: int | None,
        report_s: float,
        keep_s: float,
    ) -> None:
        super().__init__()
        self.training, self.report, self.keep, self.steps = training, report, keep, steps
        self.report_s, self.keep_s = report_s, keep_s
        self.begun = self.reported = self.kept = time.monotonic()
        self.end = self.begun + seconds
        self.compiled: float | None = None
        self.done = 0
        self.slowest = 0.0
        self.good = training.mean_weights()
        self.slower = 1.0
        self.round_begun = self.begun

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.round_begun = now = time.monotonic()
        begun = self.compiled if self.compiled is not None else now
        passed = min(1.0, max(0.0, (now - begun) / max(self.end - begun, 1e-9)))
        if self.steps is not None:
            passed = max(passed, self.done / self.steps)
        settings = self.training.settings
        share = settings.end_rate + (1 - settings.end_rate) * (1 + math.cos(math.pi * passed)) / 2
        warm = min(1.0, (self.done + settings.round_steps) / _WARM_UP_STEPS)
        self.training.optimizer.learning_rate = settings.rate * share * warm * self.slower

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.monotonic()
        settings = self.training.settings
        self.done += settings.round_steps
        if self.compiled is None:
            self.compiled = now
            self.report(f"first {settings.round_steps} steps {now - self.begun:.0f} s")
        else:
            self.slowest = max(self.slowest, now - self.round_begun)
        if now - self.reported >= self.report_s:
            self.reported = now
            values = " ".join(f"{name} {float(value):.4f}" for name, value in (logs or {}).items())
            pace = (
                (self.done - settings.round_steps) * settings.batch / max(now - self.compiled, 1e-9)
            )
            rate = float(self.training.optimizer.learning_rate)
            self.report(
                f"{now - self.begun:.0f} s step {self.done} {values} rate {rate:.2e} "
                f"{pace:.0f} tiles/s"
            )
        if not math.isfinite(float((logs or {}).get("loss", 0.0))):
            # bfloat16 can overflow; what was learnt since the last copy is given up, not the rest.
            self.slower /= 2
            self.report(f"step {self.done}: the loss is not finite; back to the last copy")
            self.training.begin_again(self.good)
        over = self.steps is not None and self.done >= self.steps
        if over or now + self.slowest >= self.end:
            self.training.stop_training = True
        elif now - self.kept >= self.keep_s:
            self.kept = now
            self.good = self.training.mean_weights()
            self.keep(self.good)
