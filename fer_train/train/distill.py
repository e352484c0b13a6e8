"""Distillation: fold models, or finished models, teach one student.

A run's fold models predict for each image once, and only those that did not train on it, so that
the teacher never repeats a label that it has learnt by heart; images are taken as they are
and mirrored, since the student sees both. Source of the idea: Hinton, Vinyals & Dean, *Distilling
the Knowledge in a Neural Network*, 2015.

Finished models did train on the images, so they are shown what they have not seen: each image as
augmentation has just changed it for the student, and that one's mirror image. Source of this: Beyer
et al., *Knowledge distillation: A good teacher is patient and consistent*, 2022.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import RunError
from fer_train.data.load import Dataset
from fer_train.network._keras import keras
from fer_train.network.models import load_trained, predict
from fer_train.network.teachers import load_keras_teacher, open_teacher
from fer_train.run.evaluation import ModelEvaluation, evaluate_model
from fer_train.run.folder import (
    TEACHER,
    TEACHER_MODEL,
    TEACHERS,
    Run,
    read_arrays,
    read_teacher,
    write_arrays,
    write_atomic,
)
from fer_train.run.plan import load_run_images
from fer_train.run.recipes import Protocol, Recipe, is_network
from fer_train.run.reproduce import training_command


def models_as_teacher(
    teachers: Sequence[Path], protocol: Protocol, recipe: Recipe
) -> Callable[[Run], dict[str, Any]]:
    """Read finished models that teach as one, by their mean predictions.

    Args:
        teachers: Files as for `open_teacher`; ONNX files only with views.
        protocol: The student's.
        recipe: The student's.

    Returns:
        What puts the teacher into the run folder of a student and returns its facts; it raises
        `RunError` if another one taught that run before.

    Raises:
        RunError: One is no such file, or has other emotions.
    """
    labels, views, input_shape = protocol.labels, recipe.views, protocol.form.input_shape
    if views:
        for path in teachers:
            open_teacher(path, labels, input_shape, recipe)
    else:
        nets = [load_keras_teacher(path, labels, input_shape, recipe) for path in teachers]
    facts = {
        "files": [path.name for path in teachers],
        "sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in teachers],
    }

    def teach(student: Run) -> dict[str, Any]:
        if (student.folder / TEACHER).exists() and read_teacher(student) != facts:
            raise _another(student)
        if views:
            for number, path in enumerate(teachers):
                # With what describes other people's models.
                for part in filter(Path.is_file, (path.with_suffix(".toml"), path)):
                    copy = student.folder / TEACHERS / f"{number:02d}-{part.name}"
                    write_atomic(copy, functools.partial(shutil.copyfile, part))
        else:
            write_atomic(student.folder / TEACHER_MODEL, _mean_model(nets).save)
        _write(student, facts)
        return facts

    return teach


def _mean_model(nets: Sequence[keras.Model]) -> keras.Model:
    if len(nets) == 1:
        return nets[0]
    image = keras.Input(nets[0].input_shape[1:])
    # Names of their own, since two files may hold models of one name.
    named = [
        keras.Model(net.input, net.output, name=f"teacher_{number}")
        for number, net in enumerate(nets)
    ]
    return keras.Model(image, keras.layers.Average()([net(image) for net in named]))


def folds_as_teacher(
    teacher: Run,
    models: Sequence[str],
    protocol: Protocol,
    dataset: Dataset,
    data: str | None = None,
) -> Callable[[Run], dict[str, Any]]:
    """Check the fold models of a run that teach by their out-of-fold predictions.

    Args:
        teacher: A complete cross-validation of the training images alone.
        models: Those of its models whose predictions are averaged.
        protocol: The student's.
        dataset: The student's images.
        data: Where the teacher's data set lies on this machine.

    Returns:
        What puts the predictions into the run folder of a student and returns their facts, of these
        ``accuracy``, the teacher's top-1 on the images it predicts for; it raises `RunError` if
        another one taught that run before.

    Raises:
        RunError: The teacher is incomplete, has other emotions, knows none of the images or has
            seen those that the student is evaluated on.
    """
    if teacher.protocol.pool != "training" or len(teacher.folds) < 2:
        raise RunError(
            f"Expected a cross-validation of the training images alone to teach, received "
            f"{teacher.folder} of {len(teacher.folds)} folds and --pool {teacher.protocol.pool}; "
            "else the teacher has trained on what it predicts for, or on the student's test set"
        )
    if teacher.protocol.labels != protocol.labels:
        raise RunError(
            f"Expected a teacher of {', '.join(protocol.labels)}, received one of "
            f"{', '.join(teacher.protocol.labels)}"
        )
    taught = load_run_images(teacher, data)
    parts = [evaluate_model(teacher, model) for model in models if is_network(model)]
    if not parts:
        raise RunError(f"Expected a model that can teach in {teacher.folder}, received none")
    place = {name: number for number, name in enumerate(dataset.names.tolist())}
    known = [(place[name], row) for row, name in enumerate(taught.names.tolist()) if name in place]
    if not known:
        raise RunError(
            f"Expected images of {teacher.protocol.data} in {protocol.data}, received none"
        )
    places, rows = np.array(known).T
    if not np.array_equal(dataset.images[places], taught.images[rows]):
        raise RunError(
            f"Expected the images of {teacher.folder} in {protocol.data}, received others "
            "of the same names"
        )

    # Ahead of the student's plan: a fold whose file is gone or damaged leaves no run behind.
    mean = np.mean(
        [
            each
            for part in parts
            for each in (part.predictions.probabilities, _mirrored_predictions(part, taught))
        ],
        axis=0,
    )
    predictions = np.full((len(dataset), mean.shape[1]), np.nan, np.float32)
    predictions[places] = mean[rows]
    facts = {
        "commands": [training_command(teacher.protocol, part.model, part.recipe) for part in parts],
        "accuracy": float(np.mean(mean.argmax(axis=1) == taught.labels)),
        "images": len(known),
    }

    def teach(student: Run) -> dict[str, Any]:
        if (student.folder / TEACHER).exists():
            before = read_arrays(student.folder / TEACHER).get("probabilities")
            if before is None or not np.array_equal(before, predictions, equal_nan=True):
                raise _another(student)
        _write(student, facts, probabilities=predictions)
        return facts

    return teach


def _another(student: Run) -> RunError:
    return RunError(f"Expected the teacher that {student.folder} began with, received another")


def _write(student: Run, facts: dict[str, Any], **arrays: NDArray[Any]) -> None:
    kept = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    write_arrays(student.folder / TEACHER, {"facts": kept, **arrays})


def _mirrored_predictions(part: ModelEvaluation, dataset: Dataset) -> NDArray[np.float32]:
    """Return float32 (N, K): mirror images, each predicted by the fold that held the image out."""
    predictions = np.empty((len(dataset), len(part.labels)), np.float32)
    for fold in part.folds:
        net = load_trained(fold.keras_file, "the trained model of each fold to teach", fold.recipe)
        held = fold.split.test
        predictions[held] = predict(net, dataset.images[held][:, :, ::-1])
        keras.backend.clear_session()
    return predictions
