"""Compiled loops over the batches of an epoch: many steps for one call from Python.

Beside `device`, the one place that speaks a back end's own language. Shapes depend on the data set
and the settings, never on a fold, and what changes from step to step is data, the learning rates
included: what was compiled for one fold serves all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_train.network._keras import keras

LossFn = Callable[[Any, Any, Any], Any]
"""From targets (N, K), outputs (N, K) and weights (N,) to a scalar."""


class Batches(NamedTuple):
    """What a loop runs over, on the device; batch ``i`` is the rows from ``i`` times its size on.

    Attributes:
        inputs: Arrays of R rows for the inputs of the network.
        targets: float32 (R, K).
        weights: float32 (R,) shares in the loss.
        rates: float32 (R / size,) learning rate of each step; zeros where nothing is learnt.
    """

    inputs: list[Any]
    targets: Any
    weights: Any
    rates: Any


class Loops(ABC):
    """Trains and evaluates a network by loops that are compiled when they first run.

    Args:
        network: A Keras model; the losses that it adds count too.
        optimizer: Built for the network's trainable variables, with a plain number as its rate.
        loss: What is minimised besides.
        size: Rows of a training batch.
        evaluation_size: Rows of a batch that is evaluated.
        xla: Whether TensorFlow compiles each step by XLA; JAX always does.
        whole: Whether JAX compiles a loop of steps, not one step that Python calls: on processors
            XLA's convolutions are many times slower inside of a loop.
    """

    def __init__(
        self,
        network: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: LossFn,
        size: int,
        evaluation_size: int,
        *,
        xla: bool = False,
        whole: bool = True,
    ) -> None:
        """Take the parts; nothing is compiled yet."""
        self.network, self.optimizer, self.loss = network, optimizer, loss
        self.size, self.evaluation_size = size, evaluation_size
        self.xla, self.whole = xla, whole

    @abstractmethod
    def put(self, batches: Batches) -> Batches:
        """Copy NumPy arrays to the device."""

    @abstractmethod
    def train(self, batches: Batches, start: int, stop: int) -> tuple[float, NDArray[np.float32]]:
        """Run the training steps of the batches ``start`` to ``stop``.

        Returns:
            The sum of their losses, and their outputs: ((stop - start) * size, K).
        """

    @abstractmethod
    def evaluate(
        self, batches: Batches, start: int, stop: int
    ) -> tuple[float, NDArray[np.float32]]:
        """Do the same without learning, on batches of ``evaluation_size``."""


def filled(
    inputs: Sequence[NDArray[Any]],
    targets: NDArray[np.float32],
    weights: NDArray[np.float32],
    rates: NDArray[np.float32],
    *,
    rows: int,
    size: int,
) -> Batches:
    """Repeat arrays from their beginning until they have so many rows, rounded up to batches.

    The last batch of an epoch is thereby as full as the others: its rest is what the epoch has
    begun with.
    """
    steps = -(-rows // size)
    places = np.arange(steps * size) % len(targets)
    return Batches(
        [array[places] for array in inputs],
        targets[places],
        weights[places],
        np.pad(rates, (0, steps - rates.size)).astype(np.float32),
    )


class _TensorFlowLoops(Loops):
    """By functions of TensorFlow, whose graph holds the loop."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        import tensorflow as tf

        def step(training: bool) -> Callable[..., Any]:
            function = self._train_step if training else self._evaluation_step
            return (
                tf.function(function, jit_compile=True, autograph=False) if self.xla else function
            )

        def train_steps(batches: Batches, start: Any, stop: Any) -> Any:
            return self._loop(step(True), self.size, batches, start, stop)

        def evaluation_steps(batches: Batches, start: Any, stop: Any) -> Any:
            return self._loop(step(False), self.evaluation_size, batches, start, stop)

        self._compiled = [
            tf.function(function, autograph=False) for function in (train_steps, evaluation_steps)
        ]

    @property
    def compilations(self) -> tuple[int, int]:
        """How often the loops of training and of evaluation were compiled."""
        train, evaluate = (loop.experimental_get_tracing_count() for loop in self._compiled)
        return train, evaluate

    def put(self, batches: Batches) -> Batches:
        import tensorflow as tf

        return Batches([tf.constant(array) for array in batches[0]], *map(tf.constant, batches[1:]))

    def train(self, batches: Batches, start: int, stop: int) -> tuple[float, NDArray[np.float32]]:
        return self._run(0, batches, start, stop)

    def evaluate(
        self, batches: Batches, start: int, stop: int
    ) -> tuple[float, NDArray[np.float32]]:
        return self._run(1, batches, start, stop)

    def _run(
        self, which: int, batches: Batches, start: int, stop: int
    ) -> tuple[float, NDArray[np.float32]]:
        import tensorflow as tf

        total, outputs = self._compiled[which](batches, tf.constant(start), tf.constant(stop))
        return float(total), outputs.numpy().reshape(-1, outputs.shape[-1])

    def _loop(
        self, step: Callable[..., Any], size: int, data: Batches, start: Any, stop: Any
    ) -> Any:
        import tensorflow as tf

        def rows(array: Any, number: Any) -> Any:
            rest = list(array.shape[1:])
            return tf.slice(array, [number * size, *[0] * len(rest)], [size, *rest])

        def body(number: Any, total: Any, found: Any) -> Any:
            inputs = [rows(array, number) for array in data.inputs]
            targets, weights = rows(data.targets, number), rows(data.weights, number)
            loss, outputs = step(inputs, targets, weights, data.rates[number])
            return number + 1, total + loss, found.write(number - start, outputs)

        found = tf.TensorArray(
            tf.float32, size=stop - start, element_shape=(size, data.targets.shape[1])
        )
        # One step after the other, as each begins with the weights that the one before has left.
        _, total, found = tf.while_loop(
            lambda number, total, found: number < stop,
            body,
            (start, tf.constant(0.0), found),
            parallel_iterations=1,
        )
        return total, found.stack()

    def _train_step(self, inputs: Any, targets: Any, weights: Any, rate: Any) -> Any:
        import tensorflow as tf

        self.optimizer.learning_rate.assign(rate)
        variables = self.network.trainable_variables
        with tf.GradientTape() as tape:
            loss, outputs = self._forward(inputs, targets, weights, training=True)
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss, outputs

    def _evaluation_step(self, inputs: Any, targets: Any, weights: Any, rate: Any) -> Any:
        return self._forward(inputs, targets, weights, training=False)

    def _forward(self, inputs: Any, targets: Any, weights: Any, *, training: bool) -> Any:
        outputs = keras.ops.cast(self.network(inputs, training=training), "float32")
        loss = self.loss(targets, outputs, weights)
        for added in self.network.losses:
            loss += keras.ops.cast(added, "float32")
        return loss, outputs


class _JaxLoops(Loops):
    """By programs of XLA, which hold the loop, or one step of it."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        import jax

        # Their names are what JAX's log of compilations tells.
        def train_steps(carried: Any, batches: Batches, start: Any, stop: Any) -> Any:
            return self._loop(self._train_step, self.size, carried, batches, start, stop)

        def evaluation_steps(
            carried: Any, variables: Any, batches: Batches, start: Any, stop: Any
        ) -> Any:
            step = partial(self._evaluation_step, variables)
            return self._loop(step, self.evaluation_size, carried, batches, start, stop)

        self._train = jax.jit(train_steps, donate_argnums=0)
        self._evaluate = jax.jit(evaluation_steps, donate_argnums=0)
        is_rate = [v is self.optimizer.learning_rate for v in self.optimizer.variables]
        self._rate = is_rate.index(True)

    def put(self, batches: Batches) -> Batches:
        import jax

        return jax.device_put(batches)  # type: ignore[no-any-return]

    def train(self, batches: Batches, start: int, stop: int) -> tuple[float, NDArray[np.float32]]:
        net = self.network
        variables = [
            net.trainable_variables,
            net.non_trainable_variables,
            self.optimizer.variables,
        ]
        values = [[variable.value for variable in part] for part in variables]
        values, total, rows = self._calls(self._train, values, batches, start, stop)
        for part, now in zip(variables, values, strict=True):
            for variable, value in zip(part, now, strict=True):
                variable.assign(value)
        return float(total), np.asarray(rows)[start * self.size : stop * self.size]

    def evaluate(
        self, batches: Batches, start: int, stop: int
    ) -> tuple[float, NDArray[np.float32]]:
        net, size = self.network, self.evaluation_size
        variables = [
            [variable.value for variable in part]
            for part in (net.trainable_variables, net.non_trainable_variables)
        ]

        def program(carried: Any, *rest: Any) -> Any:
            return self._evaluate(carried, variables, *rest)

        _, total, rows = self._calls(program, [], batches, start, stop)
        return float(total), np.asarray(rows)[start * size : stop * size]

    def _calls(
        self, program: Callable[..., Any], state: Any, batches: Batches, start: int, stop: int
    ) -> Any:
        """Run a program over all steps at once, or over one after the other."""
        carried = (state, np.float32(0), np.zeros(batches.targets.shape, np.float32))
        for begin in [start] if self.whole else range(start, stop):
            end = stop if self.whole else begin + 1
            carried = program(carried, batches, np.int32(begin), np.int32(end))
        return carried

    def _loop(
        self,
        step: Callable[..., Any],
        size: int,
        carried: Any,
        data: Batches,
        start: Any,
        stop: Any,
    ) -> Any:
        import jax
        from jax import lax

        def body(number: Any, carried: Any) -> Any:
            state, total, rows = carried
            rows_of = partial(lax.dynamic_slice_in_dim, start_index=number * size, slice_size=size)
            batch = jax.tree.map(rows_of, data[:3])
            state, loss, outputs = step(state, *batch, data.rates[number])
            rows = lax.dynamic_update_slice_in_dim(rows, outputs, number * size, 0)
            return state, total + loss, rows

        if not self.whole:
            return body(start, carried)
        return lax.fori_loop(start, stop, body, carried)

    def _train_step(self, state: Any, inputs: Any, targets: Any, weights: Any, rate: Any) -> Any:
        import jax

        trainable, rest, optimizer = state
        gradient = jax.value_and_grad(self._forward, has_aux=True)
        (loss, (rest, outputs)), gradients = gradient(
            trainable, rest, inputs, targets, weights, training=True
        )
        optimizer = [*optimizer[: self._rate], rate, *optimizer[self._rate + 1 :]]
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return [trainable, rest, optimizer], loss, outputs

    def _evaluation_step(
        self, variables: Any, state: Any, inputs: Any, targets: Any, weights: Any, rate: Any
    ) -> Any:
        trainable, rest = variables
        loss, (_, outputs) = self._forward(
            trainable, rest, inputs, targets, weights, training=False
        )
        return state, loss, outputs

    def _forward(
        self,
        trainable: Any,
        rest: Any,
        inputs: Any,
        targets: Any,
        weights: Any,
        *,
        training: bool,
    ) -> Any:
        outputs, rest, added = self.network.stateless_call(
            trainable, rest, inputs, training=training, return_losses=True
        )
        outputs = keras.ops.cast(outputs, "float32")
        loss = self.loss(targets, outputs, weights)
        for part in added:
            loss += keras.ops.cast(part, "float32")
        return loss, (rest, outputs)


def make_loops(*parts: Any, **options: Any) -> Loops:
    """Return the `Loops` of Keras's back end."""
    kind = _JaxLoops if keras.backend.backend() == "jax" else _TensorFlowLoops
    return kind(*parts, **options)


def precision_works(precision: str) -> bool:
    """Train a small network for two steps in a dtype policy; tell whether all stays finite."""
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        layers = keras.layers
        image = x = keras.Input((12, 12, 3))
        for layer in (
            layers.Conv2D(8, 3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(7),
            layers.Softmax(dtype="float32"),
        ):
            x = layer(x)
        network = keras.Model([image], x)
    finally:
        keras.config.set_dtype_policy(usual)
    optimizer = keras.optimizers.AdamW(1e-3)
    optimizer.build(network.trainable_variables)
    loops = make_loops(network, optimizer, keras.losses.CategoricalCrossentropy(), 8, 8)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(16, 12, 12, 3)).astype(np.float32)
    targets = np.eye(7, dtype=np.float32)[np.arange(16) % 7]
    arrays = ([images], targets, np.ones(16, np.float32), np.full(2, 1e-3, np.float32))
    loss, outputs = loops.train(loops.put(filled(*arrays, rows=16, size=8)), 0, 2)
    weights = [loss, outputs, *network.get_weights()]
    return all(bool(np.isfinite(array).all()) for array in weights)
