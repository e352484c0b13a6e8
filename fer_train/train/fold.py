"""One fold: train, checkpoint, resume, judge. Back-end neutral: Keras 3 alone.

The images lie on the device once, as a table; the batches that travel are image numbers. Epochs
are run one at a time, each followed by an atomic checkpoint that holds everything the next epoch
depends on, so that a killed fold goes on where it was.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fer_edge.errors import RunError
from fer_train.data.folds import Fold
from fer_train.network._keras import keras
from fer_train.network.device import (
    PREDICTION_BATCH,
    choose_precision,
    describe_device,
    on_accelerator,
)
from fer_train.network.features import backbone_features
from fer_train.network.models import BACKBONE, HEAD, augmentation, build_model, flip, leaves
from fer_train.network.teachers import Answer, mean_answer, open_teacher
from fer_train.run.folder import (
    TEACHER,
    TEACHER_MODEL,
    TEACHERS,
    Run,
    locked,
    read_arrays,
    write_arrays,
    write_atomic,
    write_results,
)
from fer_train.run.recipes import Recipe
from fer_train.train.checkpoints import CHECKPOINTS_KEPT, random_states, restore, stage_variables
from fer_train.train.curves import (
    Answers,
    History,
    best_epoch,
    curve_scores,
    plateau_rate,
    stops_early,
)
from fer_train.train.lessons import ImageTable, Lesson, Taught, mixed_targets


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


class FoldTrainer:
    """Trains one fold of one model in its folder.

    Args:
        run: The run.
        model: Name of the model.
        fold: The fold.
        images: uint8 (N, 48, 48) images of the whole data set.
        labels: int64 (N,) classes in the order of the protocol's labels.
    """

    def __init__(
        self,
        run: Run,
        model: str,
        fold: Fold,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
    ) -> None:
        """Take the parts; nothing is built or written yet."""
        self.run, self.model, self.fold = run, model, fold
        self.recipe = run.recipes[model]
        self.images, self.labels = images[..., None], labels
        self.classes = len(run.protocol.labels)
        self.one_hot = np.eye(self.classes, dtype=np.float32)[labels]
        self.folder = run.fold_folder(model, fold.index)
        self.seed = (run.protocol.seed * 1009 + fold.index) % 2**32

    @property
    def device(self) -> str:
        """Back end, devices and precision, such as ``tensorflow on cpu:0, float32``."""
        return f"{describe_device()}, {choose_precision(self.recipe)}"

    def train(self, report: Callable[[Progress], None] = lambda progress: None) -> dict[str, Any]:
        """Train to the end, from the last checkpoint if there is one, and judge the model.

        Returns:
            What metrics.json holds.

        Raises:
            RunError: Another process trains this fold, or the folder cannot be written.
        """
        with locked(self.folder / "lock"):
            if not self.run.is_done(self.model, self.fold.index):
                self._train_epochs(report)
                self._finish()
            return self.run.score(self.model, self.fold.index)

    def _train_epochs(self, report: Callable[[Progress], None]) -> None:
        # What the fold before has left in memory.
        keras.backend.clear_session()
        keras.utils.set_random_seed(self.seed)
        keras.config.set_dtype_policy(choose_precision(self.recipe))
        net = build_model(self.model, self.recipe, self.classes, fused=True)
        history, state = self._last_checkpoint()
        trained, stage = None, -1
        while len(history) < self.recipe.epochs and not stops_early(history, self.recipe):
            if trained is None or stage != self._stage(len(history)):
                stage = self._stage(len(history))
                trained = self._compile(net, stage)
                if state:
                    # A new stage starts a new optimizer; within a stage all of it goes on.
                    same = stage == self._stage(len(history) - 1)
                    restore(net, trained if same else None, state)
                    state = {}
            history.append(self._run_epoch(trained, history, report))
            self._checkpoint(net, trained, history)
            report(Progress(len(history), self.recipe.epochs, 0, self._epoch_images, history[-1]))

    def _stage(self, epoch: int) -> int:
        """Return 0 while the backbone is frozen, 1 from then on; ``epoch`` counts from 0."""
        return int(epoch >= self.recipe.frozen_epochs)

    def _trains_on_features(self, stage: int) -> bool:
        """Tell whether the head trains alone, as a frozen backbone never changes its answers."""
        changed = self._augments or self.recipe.mixup > 0 or self.recipe.views > 0
        return stage == 0 and not changed and not self._taught_by_model

    @property
    def _augments(self) -> bool:
        return self.recipe.augmentation > 0 or self.recipe.erasing > 0

    @property
    def _epoch_images(self) -> int:
        return self._order(0).size

    def _order(self, epoch: int) -> NDArray[np.int32]:
        """Return the image numbers of an epoch in the order they are seen."""
        rng = np.random.default_rng([self.run.protocol.seed, self.fold.index, epoch])
        train = self.fold.train
        if self.recipe.balance == "oversample":
            by_class = [
                train[self.labels[train] == label] for label in np.unique(self.labels[train])
            ]
            most = max(map(len, by_class))
            train = np.concatenate(
                [np.concatenate([own, rng.choice(own, most - len(own))]) for own in by_class]
            )
        return rng.permutation(train).astype(np.int32)

    def _lesson(self, epoch: int) -> Lesson:
        """Return what an epoch teaches.

        With mixup the inputs are image numbers, those of their partners and the images' own shares,
        a half or more. Source: Zhang et al., *mixup: Beyond Empirical Risk Minimization*, 2018.
        """
        order = self._order(epoch)
        weights = self._class_weights()[self.labels]
        if not self.recipe.mixup:
            return Lesson(order, [order], self._targets[order], weights[order])
        rng = np.random.default_rng([self.run.protocol.seed, self.fold.index, epoch, 1])
        share = rng.beta(self.recipe.mixup, self.recipe.mixup, order.size).astype(np.float32)
        share = np.maximum(share, 1 - share)
        partner = rng.permutation(order)

        def mix(values: NDArray[np.float32]) -> NDArray[np.float32]:
            own = share.reshape(-1, *[1] * (values.ndim - 1))
            return np.asarray(own * values[order] + (1 - own) * values[partner], np.float32)

        inputs = [order, partner, share[:, None, None, None]]
        return Lesson(order, inputs, mix(self._targets), mix(weights))

    def _viewed_lesson(self, epoch: int) -> Lesson:
        """Return what an epoch teaches by a view, in an order of its own: images, not numbers."""
        view = epoch % self.recipe.views
        lesson = self._lesson(view)
        seen = self._view(view, lesson)
        rng = np.random.default_rng([self.run.protocol.seed, self.fold.index, epoch, 2])
        shuffled = rng.permutation(lesson.order.size)
        targets = mixed_targets(
            self._smoothed(lesson.targets), seen["answers"], self.recipe.teacher_weight
        )
        return Lesson(
            lesson.order[shuffled],
            [seen["images"][shuffled]],
            targets[shuffled],
            lesson.weights[shuffled],
        )

    def _view(self, view: int, lesson: Lesson) -> dict[str, NDArray[Any]]:
        """Return the images of a lesson as changed, uint8, and the teachers' answers to them.

        They are computed and kept when they are first asked for.
        """
        path = self.folder / f"view-{view:03d}.npz"
        if not path.is_file():
            # Each view by itself, so that a killed fold makes those to come as it would have.
            change = augmentation(self.recipe.augmentation, self.recipe.erasing, self.seed + view)
            images = np.empty((lesson.order.size, *self.images.shape[1:]), np.uint8)
            answers = np.empty((lesson.order.size, self.classes), np.float32)
            for start in range(0, lesson.order.size, PREDICTION_BATCH):
                chunk = slice(start, start + PREDICTION_BATCH)
                mixed = self._mixed(*(part[chunk] for part in lesson.inputs))
                if self._augments:
                    mixed = keras.ops.convert_to_numpy(change(mixed, training=True))
                images[chunk] = np.clip(np.rint(mixed), 0, 255)
                answers[chunk] = mean_answer(self._teachers, images[chunk, ..., 0])
            write_arrays(path, {"images": images, "answers": answers})
        return read_arrays(path)

    def _mixed(
        self,
        numbers: NDArray[np.int32],
        partners: NDArray[np.int32] | None = None,
        shares: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return float32 (N, 48, 48, 1) images, mixed with their partners' if there are any."""
        images = self.images[numbers].astype(np.float32)
        if partners is None or shares is None:
            return images
        return shares * images + (1 - shares) * self.images[partners]

    def _smoothed(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        spread = self.recipe.label_smoothing
        return (1 - spread) * targets + np.float32(spread / self.classes)

    @cached_property
    def _teachers(self) -> list[Answer]:
        files = sorted((self.run.folder / TEACHERS).iterdir())
        models = [path for path in files if path.suffix != ".toml"]
        return [open_teacher(path, self.run.protocol.labels) for path in models]

    def _compile(self, net: keras.Model, stage: int) -> keras.Model:
        net.get_layer(BACKBONE).trainable = stage == 1
        number = keras.Input((), dtype="int32", name="image_number")
        inputs = [number]
        on_features = self._trains_on_features(stage)
        if self.recipe.views:
            inputs = [keras.Input(self.images.shape[1:], dtype="uint8", name="image")]
            x = keras.ops.cast(inputs[0], "float32")
            if self.recipe.augmentation:
                # The teachers answer both sides.
                x = flip(self.seed)(x)
            output = net(x)
        elif on_features:
            output = net.get_layer(HEAD)(ImageTable(self._features(net))(number))
        else:
            table = ImageTable(self.images)
            x = table(number)
            if self.recipe.mixup:
                inputs.append(partner := keras.Input((), dtype="int32", name="partner"))
                inputs.append(share := keras.Input((1, 1, 1), dtype="float32", name="share"))
                x = share * x + (1 - share) * table(partner)
            if self._augments:
                x = augmentation(self.recipe.augmentation, self.recipe.erasing, self.seed)(x)
            output = net(x)
            if self._taught_by_model:
                output = Taught(self._teacher(), self.recipe.teacher_weight)(output, x)
        trained = keras.Model(inputs, output, name="training")
        first = 0 if stage == 0 else self.recipe.frozen_epochs
        end = self.recipe.frozen_epochs if stage == 0 else self.recipe.epochs
        steps = -(-self._epoch_images // self.recipe.batch_size)
        # A new one: Keras empties it before an epoch only once it knows it.
        self._answers = Answers(max(self._epoch_images, self.fold.validation.size), self.classes)
        trained.compile(
            optimizer=_optimizer(self.recipe, steps, end - first),
            loss=keras.losses.CategoricalCrossentropy(
                # The targets of views are smooth where they are labels.
                label_smoothing=0.0 if self.recipe.views else self.recipe.label_smoothing
            ),
            loss_weights=[1 - self.recipe.teacher_weight] if self._taught_by_model else None,
            metrics=[self._answers],
            # On processors XLA's convolutions are several times slower than TensorFlow's own, and
            # its matrix products somewhat; but it runs all of Adam's update in one go, which is
            # most of the work of a head that trains alone.
            jit_compile=keras.backend.backend() == "jax"
            or on_accelerator()
            or (on_features and self.recipe.optimizer != "sgd"),
        )
        trained.optimizer.build(trained.trainable_variables)
        return trained

    def _features(self, net: keras.Model) -> NDArray[np.float32]:
        return backbone_features(
            net.get_layer(BACKBONE), self.images, self.run.folder / self.model / "features"
        )

    def _run_epoch(
        self, trained: keras.Model, history: History, report: Callable[[Progress], None]
    ) -> dict[str, float]:
        start = time.perf_counter()
        epoch = len(history)
        recipe = self.recipe
        if recipe.schedule == "plateau":
            rate = plateau_rate(history, recipe.learning_rate)
            trained.optimizer.learning_rate = rate
        else:
            rate = float(keras.ops.convert_to_numpy(trained.optimizer.learning_rate))
        lesson = self._viewed_lesson(epoch) if recipe.views else self._lesson(epoch)

        class Report(keras.callbacks.Callback):  # type: ignore[misc]
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                seen = min((batch + 1) * recipe.batch_size, lesson.order.size)
                report(Progress(epoch + 1, recipe.epochs, seen, lesson.order.size))

        logs = trained.fit(
            lesson.inputs,
            lesson.targets,
            sample_weight=lesson.weights,
            batch_size=recipe.batch_size,
            shuffle=False,
            verbose=0,
            callbacks=[Report()],
        ).history
        row = {"epoch": float(epoch + 1), "learning_rate": rate, "loss": float(logs["loss"][-1])}
        row |= curve_scores(self.one_hot[lesson.order], self._answers.take())
        held = self.fold.validation.astype(np.int32)
        # With mixup: each image is its own partner.
        whole = np.ones((held.size, 1, 1, 1), np.float32)
        inputs = [self.images[held]] if recipe.views else [held, held, whole]
        logs = trained.evaluate(
            inputs[: len(trained.inputs)],
            self.one_hot[held],
            batch_size=PREDICTION_BATCH,
            verbose=0,
            return_dict=True,
        )
        scores = {"loss": float(logs["loss"])}
        scores |= curve_scores(self.one_hot[held], self._answers.take())
        row |= {f"val_{name}": value for name, value in scores.items()}
        return row | {"seconds": time.perf_counter() - start}

    @cached_property
    def _targets(self) -> NDArray[np.float32]:
        """Return (N, K) what the model is trained towards: labels, or a teacher's answers too."""
        if not self.recipe.teacher_weight or self._taught_by_model or self.recipe.views:
            return self.one_hot
        answers = read_arrays(self.run.folder / TEACHER)["probabilities"]
        return mixed_targets(self.one_hot, answers, self.recipe.teacher_weight)

    @property
    def _taught_by_model(self) -> bool:
        return self.recipe.teacher_weight > 0 and (self.run.folder / TEACHER_MODEL).exists()

    def _teacher(self) -> keras.Model:
        """Return the finished model that answers what the student sees, in its precision."""
        net = keras.saving.load_model(self.run.folder / TEACHER_MODEL, compile=False)
        for layer in leaves(net):
            if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
                layer.dtype_policy = choose_precision(self.recipe)
        return net

    def _class_weights(self) -> NDArray[np.float32]:
        """Return (K,) loss weights: 1, or inverse frequency with a mean of 1 over the images."""
        if self.recipe.balance != "weights":
            return np.ones(self.classes, np.float32)
        counts = np.bincount(self.labels[self.fold.train], minlength=self.classes)
        inverse = counts.sum() / np.maximum(counts, 1) / np.count_nonzero(counts)
        return np.asarray(inverse, np.float32)

    def prior(self) -> list[float]:
        """Return the share of each class in what an epoch teaches; empty where one has none."""
        order = self._order(0)
        weights = self._class_weights()[self.labels[order]]
        shares = (weights[:, None] * self._targets[order]).sum(axis=0, dtype=np.float64)
        shares = (shares / shares.sum()).round(6)
        return shares.tolist() if shares.all() else []

    def _checkpoint(self, net: keras.Model, trained: keras.Model, history: History) -> None:
        epoch = len(history)
        arrays = {f"net_{i:04d}": value for i, value in enumerate(net.get_weights())}
        if best_epoch(history) == epoch and self.recipe.keep == "best":
            write_arrays(self.folder / f"best-{epoch:03d}.npz", arrays)
        for prefix, variables in (
            ("random", random_states(net)),
            ("rest", stage_variables(net, trained)),
        ):
            arrays |= {
                f"{prefix}_{i:04d}": keras.ops.convert_to_numpy(variable)
                for i, variable in enumerate(variables)
            }
        arrays["history"] = np.frombuffer(json.dumps(history).encode(), np.uint8)
        write_arrays(self.folder / f"checkpoint-{epoch:03d}.npz", arrays)
        self._write_history(history)
        for path in self._checkpoints()[:-CHECKPOINTS_KEPT]:
            path.unlink()
        for path in self.folder.glob("best-*.npz"):
            # The best of the checkpoint before is kept too: it is needed if this one is damaged.
            if path.name not in {
                f"best-{best_epoch(history[:end]):03d}.npz" for end in (epoch - 1, epoch) if end
            }:
                path.unlink()

    def _write_history(self, history: History) -> None:
        write_atomic(
            self.folder / "history.csv",
            lambda path: (
                pd.DataFrame(history)
                .astype({"epoch": int})
                .to_csv(path, index=False, float_format="%.6g")
            ),
        )

    def _checkpoints(self) -> list[Path]:
        """Return the files of the epochs, oldest first."""
        found = self.folder.glob("checkpoint-*.npz")
        return sorted(found, key=lambda path: int(path.stem.partition("-")[2]))

    def _last_checkpoint(self) -> tuple[History, dict[str, NDArray[Any]]]:
        """Read the newest checkpoint that is whole; a damaged one is set aside and said so."""
        for path in reversed(self._checkpoints()):
            try:
                state = read_arrays(path)
            except RunError as error:
                logging.getLogger(__name__).warning("%s; the epoch before it is used", error)
                path.replace(path.with_suffix(".damaged"))
                continue
            return json.loads(state.pop("history").tobytes()), state
        return [], {}

    def _finish(self) -> None:
        """Judge the kept weights in float32, as the exported model computes, and write it all."""
        history, state = self._last_checkpoint()
        kept = len(history)
        if self.recipe.keep == "best":
            kept = best_epoch(history)
            try:
                state = read_arrays(self.folder / f"best-{kept:03d}.npz")
            except RunError as error:
                raise RunError(f"{error}, and train anew: delete {self.folder}") from error
        keras.config.set_dtype_policy("float32")
        # All weights come from the checkpoint: no need to fetch pretrained ones again.
        net = build_model(self.model, replace(self.recipe, weights="none"), self.classes)
        net.set_weights([state[key] for key in sorted(state) if key.startswith("net_")])
        start = time.perf_counter()
        judge: keras.Model = net
        inputs: NDArray[Any] = self.images
        if self._trains_on_features(self._stage(self.recipe.epochs - 1)):
            judge, inputs = net.get_layer(HEAD), self._features(net)
        probabilities = judge.predict(
            inputs[self.fold.test].astype(np.float32), batch_size=PREDICTION_BATCH, verbose=0
        )
        facts = {
            "penalty": float(sum(keras.ops.convert_to_numpy(loss) for loss in net.losses)),
            "kept_epoch": kept,
            "epochs": len(history),
            "parameters": net.count_params(),
            "training_images": int(self.fold.train.size),
            "prior": self.prior(),
            "training_s": sum(row["seconds"] for row in history),
            "evaluation_s": time.perf_counter() - start,
            "device": describe_device(),
            "dtype_policy": choose_precision(self.recipe),
        }
        write_atomic(self.folder / "model.keras", net.save)
        self._write_history(history)
        write_results(self.folder, self.fold, self.labels[self.fold.test], probabilities, facts)
        for pattern in ("checkpoint-*", "best-*.npz", "view-*.npz"):
            for path in self.folder.glob(pattern):
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
