"""What a network is taught: the data of each epoch, and the network that learns from them.

Which lesson a training has follows from what its run says, see `choose_lessons`:

| lesson | the network sees | targets |
|---|---|---|
| `Lesson` | images by number, changed anew in each epoch | truth, or a run's predictions mixed in |
| `FeatureLesson` | what a frozen backbone makes of the images | the same |
| `TeacherLesson` | as `Lesson` | truth, and what finished models predict for these very images |
| `ViewLesson` | images changed ahead of training | truth, and what they predicted for these |

The truth is what the data set says: its labels or, where there are votes, their shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_train.data.load import Dataset
from fer_train.data.pixels import with_channels
from fer_train.data.votes import vote_targets
from fer_train.network._keras import keras
from fer_train.network.device import PREDICTION_BATCH
from fer_train.network.features import backbone_features
from fer_train.network.models import (
    BACKBONE,
    HEAD,
    augmentation,
    flip,
    leaves,
    predict,
    predict_rows,
)
from fer_train.network.teachers import (
    PredictFn,
    both_sides,
    load_keras_teacher,
    mean_prediction,
    open_teacher,
)
from fer_train.run.folder import (
    TEACHER,
    TEACHER_MODEL,
    TEACHERS,
    RunFold,
    read_arrays,
    write_arrays,
)
from fer_train.run.recipes import Recipe

_PRIOR_IMAGES = 4096
"""Images that tell how often a teacher predicts each class."""


@dataclass(frozen=True)
class EpochData:
    """The data of one epoch, in the order in which the network sees them.

    Attributes:
        order: int32 (N,) image numbers.
        inputs: Arrays of N rows for the inputs of the model that is trained.
        targets: float32 (N, K).
        weights: float32 (N,) shares in the loss.
    """

    order: NDArray[np.int32]
    inputs: list[NDArray[Any]]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class TrainingSet:
    """The images of a fold and what is said of them.

    Attributes:
        images: uint8 (N, S, S, 1 or 3), the whole data set.
        truth: float32 (N, K), the labels or the shares of the votes: classes are balanced by them,
            and held-out images are compared with them.
        targets: float32 (N, K), what is learnt: the truth, mixed with a teacher's predictions.
        train: int64 numbers of the images that train.
        run_seed: The run's seed.
        fold: Index of the fold.
        labels: Names of the K classes.
    """

    images: NDArray[np.uint8]
    truth: NDArray[np.float32]
    targets: NDArray[np.float32]
    train: NDArray[np.int64]
    run_seed: int
    fold: int
    labels: tuple[str, ...]

    @property
    def seed(self) -> int:
        """Seed of weights, dropout and augmentation: one that Keras takes."""
        return (self.run_seed * 1009 + self.fold) % 2**32

    def random(self, *purpose: int) -> np.random.Generator:
        """Return the generator of an epoch, or of one purpose in it."""
        return np.random.default_rng([self.run_seed, self.fold, *purpose])


class Lesson:
    """Images by number, as they are or changed anew in each epoch; targets known beforehand.

    Args:
        recipe: Settings.
        data: What is taught.
    """

    def __init__(self, recipe: Recipe, data: TrainingSet) -> None:
        """Take the parts; nothing is computed yet."""
        self.recipe, self.data = recipe, data
        self.size = self.order(0).size

    @property
    def most(self) -> int:
        """Images of an epoch that no fold of this data set exceeds, nor this one."""
        images = len(self.data.images)
        if self.recipe.balance == "oversample":
            counts = np.bincount(self.data.truth.argmax(axis=1))
            images = counts.max() * np.count_nonzero(counts)
        return int(max(images, self.size))

    @property
    def label_smoothing(self) -> float:
        """What the loss takes from each target and spreads over all classes."""
        return self.recipe.label_smoothing

    @property
    def loss_weight(self) -> float:
        """Share of the targets in the loss."""
        return 1.0

    @property
    def suits_xla(self) -> bool:
        """Whether XLA helps on processors, where its convolutions are several times slower."""
        return False

    def order(self, epoch: int) -> NDArray[np.int32]:
        """Return the image numbers of an epoch, from 0, in the order in which they are seen."""
        rng = self.data.random(epoch)
        train = self.data.train
        if self.recipe.balance == "oversample":
            classes = self.data.truth[train].argmax(axis=1)
            by_class = [train[classes == label] for label in np.unique(classes)]
            most = max(map(len, by_class))
            train = np.concatenate(
                [np.concatenate([own, rng.choice(own, most - len(own))]) for own in by_class]
            )
        return rng.permutation(train).astype(np.int32)

    def epoch_data(self, epoch: int) -> EpochData:
        """Return the data of an epoch, from 0.

        With mixup the inputs are image numbers, those of their partners and the images' own shares,
        a half or more. Source: Zhang et al., *mixup: Beyond Empirical Risk Minimization*, 2018.
        """
        order, targets = self.order(epoch), self.data.targets
        weights = self._image_weights
        if not self.recipe.mixup:
            return EpochData(order, [order], targets[order], weights[order])
        rng = self.data.random(epoch, 1)
        share = rng.beta(self.recipe.mixup, self.recipe.mixup, order.size).astype(np.float32)
        share = np.maximum(share, 1 - share)
        partner = rng.permutation(order)

        def mix(values: NDArray[np.float32]) -> NDArray[np.float32]:
            own = share.reshape(-1, *[1] * (values.ndim - 1))
            return np.asarray(own * values[order] + (1 - own) * values[partner], np.float32)

        inputs = [order, partner, share[:, None, None, None]]
        return EpochData(order, inputs, mix(targets), mix(weights))

    def inputs_of(
        self, numbers: NDArray[np.int64], shares: NDArray[np.float32]
    ) -> list[NDArray[Any]]:
        """Return the inputs by which the network that is trained sees images unmixed.

        Args:
            numbers: (n,) image numbers.
            shares: (n,) of each in the mean of a loss that the network itself adds.
        """
        order = numbers.astype(np.int32)
        if not self.recipe.mixup:
            return [order]
        # Each image is its own partner.
        return [order, order, np.ones((order.size, 1, 1, 1), np.float32)]

    def network(self, net: keras.Model) -> keras.Model:
        """Return the model that is trained: inputs of `epoch_data` to the outputs of ``net``."""
        inputs, images = self._seen()
        return keras.Model(inputs, net(images), name="training")

    def _seen(self) -> tuple[list[Any], Any]:
        """Return the network's inputs and the images (N, S, S, 1 or 3) that they mean, changed."""
        number = keras.Input((), dtype="int32", name="image_number")
        inputs = [number]
        table = ImageTable(self.data.images)
        x = table(number)
        if self.recipe.mixup:
            inputs.append(partner := keras.Input((), dtype="int32", name="partner"))
            inputs.append(share := keras.Input((1, 1, 1), dtype="float32", name="share"))
            x = share * x + (1 - share) * table(partner)
        if augments(self.recipe):
            x = augmentation(self.recipe.augmentation, self.recipe.erasing, self.data.seed)(x)
        return inputs, x

    def predict(self, net: keras.Model, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the probabilities of images, unchanged: float32 (n, K)."""
        return predict(net, self.data.images[numbers])

    def prior(self) -> list[float]:
        """Return the share of each class in what an epoch teaches; empty where one has none."""
        return _shares(self.epoch_data(0))

    @cached_property
    def _image_weights(self) -> NDArray[np.float32]:
        """Return (N,) loss weights: 1, or inverse frequency with a mean of 1 over the images."""
        truth = self.data.truth
        weights = np.ones(truth.shape[1], np.float32)
        if self.recipe.balance == "weights":
            counts = truth[self.data.train].sum(axis=0, dtype=np.float64)
            inverse = counts.sum() / np.maximum(counts, 1) / np.count_nonzero(counts)
            weights = inverse.astype(np.float32)
        return np.asarray(truth @ weights, np.float32)


class FeatureLesson(Lesson):
    """What a frozen backbone makes of each image, computed once: the head trains alone.

    Args:
        recipe: Settings, which change no image.
        data: What is taught.
        folder: Where the features are kept.
    """

    def __init__(self, recipe: Recipe, data: TrainingSet, folder: Path) -> None:
        """Take the parts; nothing is computed yet."""
        super().__init__(recipe, data)
        self.folder = folder

    @property
    def suits_xla(self) -> bool:
        """Whether XLA helps: it runs all of Adam's update, most of a head's work, in one go."""
        return self.recipe.optimizer != "sgd"

    def network(self, net: keras.Model) -> keras.Model:
        """Return the head, on features that are looked up by number."""
        number = keras.Input((), dtype="int32", name="image_number")
        output = net.get_layer(HEAD)(ImageTable(self.features(net))(number))
        return keras.Model([number], output, name="training")

    def predict(self, net: keras.Model, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the probabilities of images from their features: float32 (n, K)."""
        return predict_rows(net.get_layer(HEAD), self.features(net)[numbers])

    def features(self, net: keras.Model) -> NDArray[np.float32]:
        """Return what the backbone makes of each image: float32 (N, ...), from the folder."""
        return backbone_features(net.get_layer(BACKBONE), self.data.images, self.folder)


class TeacherLesson(Lesson):
    """Images changed anew in each epoch; a finished model predicts for them as the student does.

    Args:
        recipe: Settings.
        data: What is taught besides.
        teacher: The Keras file.
    """

    def __init__(self, recipe: Recipe, data: TrainingSet, teacher: Path) -> None:
        """Take the parts; the teacher is loaded with the network."""
        super().__init__(recipe, data)
        self.teacher = teacher

    @property
    def loss_weight(self) -> float:
        """Share of the targets in the loss; the rest is the teacher's."""
        return 1 - self.recipe.teacher_weight

    def epoch_data(self, epoch: int) -> EpochData:
        """Return the data of an epoch, from 0; each image counts as much in the teacher's part."""
        data = super().epoch_data(epoch)
        return replace(data, inputs=[*data.inputs, np.ones(data.order.size, np.float32)])

    def inputs_of(
        self, numbers: NDArray[np.int64], shares: NDArray[np.float32]
    ) -> list[NDArray[Any]]:
        """Return the inputs of images unmixed, their shares in the teacher's part among them."""
        return [*super().inputs_of(numbers, shares), shares]

    def network(self, net: keras.Model) -> keras.Model:
        """Return the outputs of ``net``, whose distance from the teacher's joins the loss."""
        inputs, images = self._seen()
        share = keras.Input((), dtype="float32", name="share_of_loss")
        teacher = self._load()
        for layer in leaves(teacher):
            if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
                # Softmax in bfloat16 would round probabilities to two digits.
                outputs = layer.activation is keras.activations.softmax
                precision = keras.config.dtype_policy().name
                layer.dtype_policy = "float32" if outputs else precision
        loss = DistillationLoss(teacher, self.recipe.teacher_weight)
        return keras.Model([*inputs, share], loss(net(images), images, share), name="training")

    def _load(self) -> keras.Model:
        input_shape = self.data.images.shape[1:]
        return load_keras_teacher(self.teacher, self.data.labels, input_shape, self.recipe)

    def prior(self) -> list[float]:
        """Return the share of each class in what an epoch teaches, the teacher's part included."""
        data = self.epoch_data(0)
        # They are in random order.
        some = data.order[:_PRIOR_IMAGES]
        outputs = both_sides(self._load())(self.data.images[some])
        mixed = mixed_targets(data.targets[: some.size], outputs, self.recipe.teacher_weight)
        return _shares(replace(data, targets=mixed, weights=data.weights[: some.size]))


class ViewLesson(Lesson):
    """Changed versions of each image, for which finished models have predicted ahead of training.

    Args:
        recipe: Settings, with ``views``.
        data: What is taught besides.
        teachers: The folder of the teachers' files.
        folder: Where the views are kept.
    """

    def __init__(self, recipe: Recipe, data: TrainingSet, teachers: Path, folder: Path) -> None:
        """Take the parts; views are computed when they are first asked for."""
        super().__init__(recipe, data)
        self.teachers, self.folder = teachers, folder

    @property
    def label_smoothing(self) -> float:
        """0: the targets are smooth already, where they are not a teacher's predictions."""
        return 0.0

    def epoch_data(self, epoch: int) -> EpochData:
        """Return the data of an epoch, from 0: a view's images, in an order of the epoch's own."""
        view = epoch % self.recipe.views
        data = super().epoch_data(view)
        seen = self._view(view, data)
        spread = self.recipe.label_smoothing
        smooth = (1 - spread) * data.targets + np.float32(spread / data.targets.shape[1])
        targets = mixed_targets(smooth, seen["predictions"], self.recipe.teacher_weight)
        shuffled = self.data.random(epoch, 2).permutation(data.order.size)
        return EpochData(
            data.order[shuffled],
            [seen["images"][shuffled]],
            targets[shuffled],
            data.weights[shuffled],
        )

    def inputs_of(
        self, numbers: NDArray[np.int64], shares: NDArray[np.float32]
    ) -> list[NDArray[Any]]:
        """Return the images themselves: uint8 (n, S, S, 1 or 3)."""
        return [self.data.images[numbers]]

    def network(self, net: keras.Model) -> keras.Model:
        """Return ``net`` on uint8 images."""
        image = keras.Input(self.data.images.shape[1:], dtype="uint8", name="image")
        x = keras.ops.cast(image, "float32")
        if self.recipe.augmentation:
            # The teachers predict for both sides.
            x = flip(self.data.seed)(x)
        return keras.Model([image], net(x), name="training")

    def _view(self, view: int, data: EpochData) -> dict[str, NDArray[Any]]:
        """Return a view's changed images, uint8, and the teachers' predictions for them."""
        path = self.folder / f"view-{view:03d}.npz"
        if not path.is_file():
            # Each view by itself, so that a killed fold makes those to come as it would have.
            change = augmentation(
                self.recipe.augmentation, self.recipe.erasing, self.data.seed + view
            )
            images = np.empty((data.order.size, *self.data.images.shape[1:]), np.uint8)
            outputs = np.empty(data.targets.shape, np.float32)
            for start in range(0, data.order.size, PREDICTION_BATCH):
                chunk = slice(start, start + PREDICTION_BATCH)
                mixed = self._mixed_images([part[chunk] for part in data.inputs])
                if augments(self.recipe):
                    mixed = keras.ops.convert_to_numpy(change(mixed, training=True))
                images[chunk] = np.clip(np.rint(mixed), 0, 255)
                outputs[chunk] = mean_prediction(self._predictors, images[chunk])
            write_arrays(path, {"images": images, "predictions": outputs})
        return read_arrays(path)

    def _mixed_images(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the images that `Lesson.epoch_data` means, mixed if there is mixup.

        Args:
            inputs: Image numbers; with mixup also those of partners, and shares.
        """
        images: NDArray[np.float32] = self.data.images[inputs[0]].astype(np.float32)
        if not self.recipe.mixup:
            return images
        _, partners, shares = inputs
        return np.asarray(shares * images + (1 - shares) * self.data.images[partners], np.float32)

    @cached_property
    def _predictors(self) -> list[PredictFn]:
        files = sorted(path for path in self.teachers.iterdir() if path.suffix != ".toml")
        input_shape = self.data.images.shape[1:]
        return [open_teacher(path, self.data.labels, input_shape, self.recipe) for path in files]


def choose_lessons(fold: RunFold, dataset: Dataset) -> tuple[Lesson, Lesson]:
    """Choose what a fold is taught by what its run says: while the backbone is frozen, and after.

    Args:
        fold: The fold.
        dataset: All images, labels in the order of the protocol's.

    Raises:
        RunError: The run has lost the predictions that teach it.
    """
    run, recipe, labels = fold.run, fold.recipe, fold.run.protocol.labels
    truth = _truth(dataset, labels, recipe.votes_share)
    targets = truth
    if run.teacher == "folds" and recipe.teacher_weight:
        outputs = read_arrays(run.folder / TEACHER)["probabilities"]
        targets = mixed_targets(truth, outputs, recipe.teacher_weight)
    data = TrainingSet(
        with_channels(dataset.images),
        truth,
        targets,
        fold.split.train,
        run.protocol.seed,
        fold.index,
        labels,
    )
    if run.teacher == "files" and recipe.views:
        lesson: Lesson = ViewLesson(recipe, data, run.folder / TEACHERS, fold.folder)
    elif run.teacher == "files" and recipe.teacher_weight:
        lesson = TeacherLesson(recipe, data, run.folder / TEACHER_MODEL)
    else:
        lesson = Lesson(recipe, data)
        # Who writes a model need not cut it in two.
        if not (augments(recipe) or recipe.mixup or recipe.code):
            # A frozen backbone never changes its outputs for images that never change.
            return FeatureLesson(recipe, data, run.folder / fold.model / "features"), lesson
    return lesson, lesson


def _shares(data: EpochData) -> list[float]:
    """Return the share of each class in weighted targets; empty where one has none."""
    shares = (data.weights[:, None] * data.targets).sum(axis=0, dtype=np.float64)
    shares = (shares / shares.sum()).round(6)
    return shares.tolist() if shares.all() else []


def _truth(dataset: Dataset, labels: tuple[str, ...], votes_share: float) -> NDArray[np.float32]:
    """Return (N, K) labels with votes mixed in by a share, or alone where votes say nothing."""
    one_hot = np.eye(len(labels), dtype=np.float32)[dataset.labels]
    if dataset.votes is None:
        return one_hot
    votes = vote_targets(dataset.votes, labels)
    mixed = votes_share * votes.shares + (1 - votes_share) * one_hot
    return np.where(votes.trains[:, None], mixed, one_hot).astype(np.float32)


def augments(recipe: Recipe) -> bool:
    """Tell whether images are changed at random."""
    return recipe.augmentation > 0 or recipe.erasing > 0


def mixed_targets(
    truth: NDArray[np.float32], outputs: NDArray[np.float32], weight: float
) -> NDArray[np.float32]:
    """Mix float32 (N, K) targets with a teacher's predictions; targets stay where these are NaN."""
    mixed = (1 - weight) * truth + weight * outputs
    return np.where(np.isnan(mixed), truth, mixed).astype(np.float32)


class ImageTable(keras.layers.Layer):  # type: ignore[misc]
    """Looks images up by number: int32 (N,) -> float32 (N, ...), from memory on the device."""

    def __init__(self, images: NDArray[Any]) -> None:
        """Copy uint8 or float images (M, ...) to the device."""
        super().__init__(name="image_table", dtype="float32", trainable=False)
        self.table = self.add_weight(
            shape=images.shape, dtype=str(images.dtype), initializer="zeros", trainable=False
        )
        self.table.assign(images)

    def call(self, numbers: Any) -> Any:
        """Gather the images."""
        return keras.ops.cast(keras.ops.take(self.table, numbers, axis=0), "float32")


class DistillationLoss(keras.layers.Layer):  # type: ignore[misc]
    """Adds to the loss how far outputs are from a teacher's, in cross-entropy.

    The teacher predicts for the very images that the student sees, and their mirror images; the
    mean of both is the target.
    """

    def __init__(self, teacher: keras.Model, weight: float) -> None:
        """Take a model of the same images and classes, and the loss's weight."""
        super().__init__(name="distillation_loss", dtype="float32", trainable=False)
        self.teacher, self.weight = teacher, weight
        teacher.trainable = False

    def call(self, outputs: Any, images: Any, shares: Any) -> Any:
        """Return the outputs (N, K) for images (N, H, W, C), of shares (N,) in the mean, as is."""
        both = keras.ops.concatenate([images, keras.ops.flip(images, axis=2)])
        found = keras.ops.cast(self.teacher(both, training=False), "float32")
        one, other = keras.ops.split(found, 2)
        targets = keras.ops.stop_gradient((one + other) / 2)
        loss = keras.ops.categorical_crossentropy(targets, outputs)
        self.add_loss(self.weight * keras.ops.mean(shares * loss))
        return outputs
