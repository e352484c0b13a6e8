"""Distillation: fold models, or a finished model, teach one student.

A run's fold models answer each image once, and only those folds do that did not train on it, so
that the teacher never repeats a label that it has learnt by heart; images are answered as they are
and mirrored, since the student sees both. Source of the idea: Hinton, Vinyals & Dean, *Distilling
the Knowledge in a Neural Network*, 2015.

A finished model did train on the images, so that it answers what it has not seen: each image as
augmentation has just changed it for the student, and that one's mirror image. Source of this: Beyer
et al., *Knowledge distillation: A good teacher is patient and consistent*, 2022.
"""

import filecmp
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.contract import IMAGE_SIZE
from fer_edge.errors import RunError
from fer_train._keras import keras
from fer_train.cards import training_command
from fer_train.data import Dataset
from fer_train.evaluation import ModelEvaluation, evaluate_model
from fer_train.models import load_trained
from fer_train.runs import TEACHER, TEACHER_MODEL, Run, write_arrays, write_atomic
from fer_train.schedule import load_run_images
from fer_train.svm import SVM
from fer_train.training import PREDICTION_BATCH


def teach_by_model(teacher: Path, student: Run) -> None:
    """Put a finished model into the student's run folder, as its teacher.

    Args:
        teacher: A Keras file of float32 (N, 48, 48, 1) images, grey, 0-255, to probabilities.
        student: The planned run of the student.

    Raises:
        RunError: It is no such file, has other emotions, or another one taught this run before.
    """
    net = load_trained(teacher, "a run or a Keras file to teach")
    shapes = [tuple(net.input_shape), tuple(net.output_shape)]
    if shapes != [(None, IMAGE_SIZE, IMAGE_SIZE, 1), (None, len(student.protocol.labels))]:
        raise RunError(
            f"Expected a teacher of {', '.join(student.protocol.labels)} in images of "
            f"{IMAGE_SIZE} x {IMAGE_SIZE}, received one from {shapes[0]} to {shapes[1]}"
        )
    kept = student.folder / TEACHER_MODEL
    if kept.exists() and not filecmp.cmp(kept, teacher, shallow=False):
        raise RunError(f"Expected the teacher that {student.folder} began with, received another")
    write_atomic(kept, lambda temporary: shutil.copyfile(teacher, temporary))
    _write(student, {"file": teacher.name})


def teach(teacher: Run, models: Sequence[str], student: Run, dataset: Dataset) -> float:
    """Write the teacher's answers into the student's run folder.

    Args:
        teacher: A complete cross-validation.
        models: Those of its models whose answers are averaged.
        student: The planned run of the student.
        dataset: The student's images.

    Returns:
        Top-1 accuracy of the teacher on the images it answers.

    Raises:
        RunError: The teacher is incomplete, has other emotions, or knows none of the images.
    """
    if teacher.protocol.labels != student.protocol.labels:
        raise RunError(
            f"Expected a teacher of {', '.join(student.protocol.labels)}, received one of "
            f"{', '.join(teacher.protocol.labels)}"
        )
    taught = load_run_images(teacher)
    parts = [evaluate_model(teacher, model) for model in models if model != SVM]
    if not parts:
        raise RunError(f"Expected a model that can teach in {teacher.folder}, received none")
    mean = np.mean(
        [
            answers
            for part in parts
            for answers in (part.predictions.probabilities, _mirrored_answers(part, taught))
        ],
        axis=0,
    )
    answers = np.full((len(dataset), mean.shape[1]), np.nan, np.float32)
    place = {name: number for number, name in enumerate(dataset.names.tolist())}
    known = [(place[name], row) for row, name in enumerate(taught.names.tolist()) if name in place]
    if not known:
        raise RunError(
            f"Expected images of {teacher.protocol.data} in {student.protocol.data}, received none"
        )
    places, rows = np.array(known).T
    answers[places] = mean[rows]
    score = float(np.mean(mean.argmax(axis=1) == taught.labels))
    facts = {
        "commands": [training_command(teacher.protocol, part.model, part.recipe) for part in parts],
        "accuracy": score,
        "images": len(known),
    }
    _write(student, facts, probabilities=answers)
    return score


def _write(student: Run, facts: dict[str, Any], **arrays: NDArray[Any]) -> None:
    kept = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    write_arrays(student.folder / TEACHER, {"facts": kept, **arrays})


def _mirrored_answers(part: ModelEvaluation, dataset: Dataset) -> NDArray[np.float32]:
    """Return float32 (N, K): mirror images, each judged by the fold that judged the image."""
    answers = np.empty((len(dataset), len(part.labels)), np.float32)
    for fold in part.run.folds:
        path = part.run.fold_folder(part.model, fold.index) / "model.keras"
        net = load_trained(path, "the trained model of each fold to teach")
        mirrored = dataset.images[fold.test][:, :, ::-1, None].astype(np.float32)
        answers[fold.test] = net.predict(mirrored, batch_size=PREDICTION_BATCH, verbose=0)
        keras.backend.clear_session()
    return answers
