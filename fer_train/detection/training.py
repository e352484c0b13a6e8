"""Training of the detector: tiles, network, loss and a running mean of the weights in one step.

Nothing but a step's number crosses from the processor to the device. All that the next step depends
on can be taken out and put back between two steps, so that a killed training goes on as it was.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import DivergedError, RunError
from fer_train.detection.loss import detection_loss
from fer_train.detection.network import named_weights
from fer_train.detection.settings import DetectorRecipe
from fer_train.detection.tiles import TileMaker
from fer_train.network._keras import keras
from fer_train.network.device import on_accelerator

ops = keras.ops

_WARM_UP_STEPS = 200
_ROUND_S = 20.0
"""Seconds between two reports, and copies of all that the training depends on."""
_MOST_FAILURES = 3


class DetectorTraining(keras.Model):  # type: ignore[misc]
    """A network with the tiles that it learns from and the running mean of its weights."""

    def __init__(self, network: keras.Model, tiles: TileMaker, recipe: DetectorRecipe) -> None:
        """Take the network, what makes its tiles, and the settings; compiled for a fit."""
        super().__init__(name="detector_training")
        self.network, self.tiles, self.recipe = network, tiles, recipe
        # Its own, since JAX does not hand the optimizer's to the loss.
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
        settings = recipe.training
        warm_up = min(_WARM_UP_STEPS, settings.steps // 2)
        rate = keras.optimizers.schedules.CosineDecay(
            settings.rate / max(1, warm_up),
            max(1, settings.steps - warm_up),
            alpha=settings.end_rate,
            warmup_target=settings.rate if warm_up else None,
            warmup_steps=warm_up,
        )
        optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.decay, global_clipnorm=5.0)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        # On processors XLA's convolutions are several times slower than TensorFlow's own.
        jit = keras.backend.backend() == "jax" or on_accelerator()
        self.compile(optimizer=optimizer, loss=None, jit_compile=jit)
        optimizer.build(self.trainable_variables)

    def call(self, step: Any, training: bool | None = None) -> list[Any]:
        """Make the step's tiles and return the network's maps, then what the tiles hold."""
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
        weights = self.recipe.loss
        losses = detection_loss(maps, rows, weights)
        for metric, loss in zip(self.parts, losses, strict=True):
            metric.update_state(loss)
        if training:
            self._update_means()
        return losses[0] + weights.box * losses[1] + weights.points * losses[2]

    def _update_means(self) -> None:
        # The first steps weigh more, or the mean would hold on to where they began.
        steps = self.steps + 1
        self.steps.assign(steps)
        keep = ops.minimum(self.recipe.training.mean, steps / (steps + 50))
        for mean, (_, weight) in zip(self.means, named_weights(self.network), strict=True):
            mean.assign(keep * mean + (1 - keep) * ops.cast(weight, "float32"))

    @property
    def done(self) -> int:
        """Steps that are done."""
        return int(ops.convert_to_numpy(self.steps))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that the next step depends on, but pictures and settings."""
        return {name: ops.convert_to_numpy(value).copy() for name, value in self._state()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Put back what `state` returned.

        Raises:
            RunError: It is of another training.
        """
        for name, variable in self._state():
            if name not in state or state[name].shape != tuple(variable.shape):
                raise RunError(f"Expected the state of this training, received none for {name}")
            variable.assign(state[name])

    def _state(self) -> list[tuple[str, Any]]:
        parts = {
            "weight": [weight for _, weight in named_weights(self.network)],
            "mean": self.means,
            "optimizer": self.optimizer.variables,
            "random": [self.tiles.seeds.state],
            "steps": [self.steps],
        }
        return [
            (f"{part}_{number:03d}", variable)
            for part, variables in parts.items()
            for number, variable in enumerate(variables)
        ]

    def mean_weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the running mean of the weights by name, as `network.load_weights` takes them."""
        names = (name for name, _ in named_weights(self.network))
        return {
            name: ops.convert_to_numpy(mean).copy()
            for name, mean in zip(names, self.means, strict=True)
        }


def train(training: DetectorTraining, until: int, keep: Callable[[dict[str, float]], None]) -> None:
    """Train until so many steps are done.

    Args:
        training: What is trained.
        until: Steps.
        keep: Takes, every twenty seconds or so and at the end, the mean losses since it was last
            called, the steps done and the seconds that they took.

    Raises:
        DivergedError: The loss is no number, again and again; ``training`` is as before that.
    """
    batch = training.recipe.training.batch
    round_steps, failures = 1, 0
    good = training.state()
    while training.done < until:
        begun = time.monotonic()
        steps = min(round_steps, until - training.done)
        # One number a tile: Keras wants the input's length to be the batch's.
        numbers = np.zeros((batch * steps, 1), np.float32)
        history = training.fit(numbers, batch_size=batch, shuffle=False, verbose=0).history
        losses = {name: float(values[-1]) for name, values in history.items()}
        took = time.monotonic() - begun
        if round_steps == 1:
            round_steps = 5  # the first one has compiled
        else:
            round_steps = max(1, min(2000, round(steps * _ROUND_S / max(took, 1e-3))))
        if math.isfinite(losses["loss"]):
            good = training.state()
            keep({"step": training.done, **losses, "seconds": round(took, 2)})
            continue
        # bfloat16 can overflow. What was learnt since the last copy is given up, not the rest, and
        # other tiles come.
        failures += 1
        training.restore({**good, "random_000": training.state()["random_000"]})
        if failures == _MOST_FAILURES:
            raise DivergedError(
                "The loss is not a number, again and again; give a lower --rate or "
                "--precision float32"
            )
