"""Whether a model can be trained, saved and loaded: found out before anything is written."""

import tempfile
from pathlib import Path

import numpy as np

from fer_edge.errors import DataError, RunError
from fer_train.data.form import FER2013, Form
from fer_train.network._keras import keras
from fer_train.network.models import backbone_of, build_model, load_trained, predict_rows
from fer_train.network.own import brief, told_of
from fer_train.run.recipes import Recipe

_SUM_TOLERANCE = 1e-3
_SAME = 1e-5


def check_model(name: str, recipe: Recipe, classes: int, form: Form = FER2013) -> None:
    """Build a model and fetch its weights, so that a training has them later.

    Args:
        name: As for `build_model`.
        recipe: Its settings.
        classes: Number of classes.
        form: Size and colours of the images.

    Raises:
        DataError: Weights cannot be had or do not fit, or one's own code raises something or builds
            no model that can be trained, saved and loaded.
        RunError: The model to go on from cannot be read or is another.
    """
    net = build_model(name, recipe, classes, form)
    if recipe.code:
        _check_own(net, recipe)


def _check_own(net: keras.Model, recipe: Recipe) -> None:
    """Try what the training of a model of one's own will need."""
    where = f"{recipe.model_file}: expected"
    if not net.trainable_weights:
        raise DataError(f"{where} a model with weights to train, received none")
    if recipe.frozen_epochs and backbone_of(net) is None:
        raise DataError(
            f"{where} a layer called backbone, which --frozen-epochs {recipe.frozen_epochs} keeps "
            "frozen at first, received none"
        )
    levels = np.random.default_rng(0).integers(0, 256, (4, *net.input_shape[1:]))
    images = levels.astype(np.float32)
    with told_of(recipe.model_file.partition(":")[0], "the model, called on images,"):
        rows = predict_rows(net, images)
    if not (np.abs(rows.sum(axis=1) - 1) <= _SUM_TOLERANCE).all() or rows.min() < 0:
        raise DataError(
            f"{where} probabilities, rows that sum to 1, received "
            f"{', '.join(f'{value:.3f}' for value in rows[0])}; end the model with Dense(classes, "
            "activation='softmax')"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{net.name}.keras"
        try:
            net.save(path)
            again = predict_rows(load_trained(path, "the model as it was saved", recipe), images)
        except (RunError, TypeError, ValueError, NotImplementedError) as error:
            raise DataError(
                f"{where} a model that Keras can save and load, received one that it cannot; "
                "decorate classes with @keras.saving.register_keras_serializable(), give them "
                f"get_config, and use no Lambda layers ({brief(error.__cause__ or error)})"
            ) from error
    if not np.abs(again - rows).max() <= _SAME:
        raise DataError(
            f"{where} a model that predicts as before when it was saved and loaded, received "
            f"probabilities that differ by {np.abs(again - rows).max():.2g}; let each layer's "
            "weights be made in build or __init__, and its get_config tell all that shapes it"
        )
