"""Distillation: the averaged answers of the fold models of a run teach one student.

Each image is answered by those folds alone that did not train on it (their out-of-fold
predictions), so the teacher never repeats a label that it has learnt by heart. Source of the idea:
Hinton, Vinyals & Dean, *Distilling the Knowledge in a Neural Network*, 2015.
"""

from collections.abc import Sequence

import numpy as np

from fer_edge.errors import RunError
from fer_train.data import Dataset
from fer_train.evaluation import evaluate_model
from fer_train.runs import Run, write_arrays
from fer_train.schedule import load_run_images
from fer_train.svm import SVM
from fer_train.training import TEACHER


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
    parts = [evaluate_model(teacher, model).predictions for model in models if model != SVM]
    if not parts:
        raise RunError(f"Expected a model that can teach in {teacher.folder}, received none")
    mean = np.mean([part.probabilities for part in parts], axis=0)
    answers = np.full((len(dataset), mean.shape[1]), np.nan, np.float32)
    place = {name: number for number, name in enumerate(dataset.names.tolist())}
    known = [(place[name], row) for row, name in enumerate(taught.names.tolist()) if name in place]
    if not known:
        raise RunError(
            f"Expected images of {teacher.protocol.data} in {student.protocol.data}, received none"
        )
    places, rows = np.array(known).T
    answers[places] = mean[rows]
    write_arrays(student.folder / TEACHER, {"probabilities": answers})
    return float(np.mean(mean.argmax(axis=1) == taught.labels))
