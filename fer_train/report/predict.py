"""New pictures -> predictions, scores and pages of pictures beside their bars.

The model is an ONNX file, or a run: then the prediction is the average of all its finished folds'
models, which is what a cross-validation has to offer for pictures that none of them has seen.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fer_edge.contract import ModelSpec
from fer_edge.errors import ImageError, RunError
from fer_edge.image.read import Frame, read_image
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.detectors import FaceDetector
from fer_edge.inference.preprocess import Box, crop_face, prepare, resize
from fer_edge.records import plain_cell
from fer_train.data.emotions import class_name
from fer_train.data.layouts import LabelledPicture, LabelledSet
from fer_train.report import plots
from fer_train.report.compare import SCORES, format_score
from fer_train.report.document import Block, Document, Gallery, Heading, Picture, Table, Text
from fer_train.report.runs import class_report
from fer_train.run.folder import Run, open_run
from fer_train.run.metrics import classification_metrics, normalise_confusion
from fer_train.run.recipes import is_network

PAGE_PICTURES = 12
_SHOWN_SIDE = 160
"""Pictures are shown at most this large, pixels."""
_FACELESS = {"accuracy_faceless_wrong": "top-1, pictures without a face counted as wrong"}


class Model(Protocol):
    """What predicts."""

    @property
    def name(self) -> str:
        """What it is called in titles."""
        ...

    @property
    def spec(self) -> ModelSpec:
        """How it is fed, and its emotions."""
        ...

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict a batch of `fer_edge.inference.preprocess.prepare`: float32 (N, K)."""
        ...


class FoldAverage:
    """The average of the probabilities of a run's fold models.

    Args:
        run: The run.
        model: One of its models.
        fold: The only fold to use, or None for all that are done.

    Raises:
        RunError: There is no such fold with a Keras model.
    """

    def __init__(self, run: Run, model: str, fold: int | None = None) -> None:
        """Find the files; they are loaded one at a time when they predict."""
        wanted = run.folds_of(model) if fold is None else [run.fold(model, fold)]
        self.files = [
            each.keras_file for each in wanted if each.is_done and each.keras_file.is_file()
        ]
        if not self.files:
            which = "folds" if fold is None else f"fold {fold}"
            raise RunError(
                f"Expected finished {which} of {model} with a model.keras in {run.folder}, "
                "received none; train it with fer-train fold, or choose another --model"
            )
        indices = ", ".join(file.parent.name for file in self.files)
        self.name = f"{model}, {indices} of {run.folder.resolve().name}"
        self._recipe = run.recipes[model]
        self.spec = replace(run.protocol.form.spec, labels=run.protocol.labels)

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average the folds' predictions: (N, S, S, 1 or 3) float32, 0-255 -> (N, K) float32."""
        from fer_train.network._keras import keras
        from fer_train.network.models import load_trained, predict_rows

        total = np.zeros((len(batch), len(self.spec.labels)), np.float64)
        for file in self.files:
            net = load_trained(file, "the trained model of a fold", self._recipe)
            total += predict_rows(net, batch)
            keras.backend.clear_session()
        return np.asarray(total / len(self.files), np.float32)


class OnnxModel:
    """An ONNX file.

    Args:
        path: Path or bare name, see `fer_edge.inference.locate.find_model`.

    Raises:
        ModelError: The file is missing, broken or not a classifier that can be used.
    """

    def __init__(self, path: Path) -> None:
        """Load the file."""
        self._classifier = Classifier(path, detector="none", prior=0)
        self.name = self._classifier.model_path.name
        self.spec = self._classifier.spec
        self.probabilities = self._classifier.probabilities


def open_model(source: Path, model: str | None = None, fold: int | None = None) -> Model:
    """Open an ONNX file, or a run folder.

    Args:
        source: The file or the folder.
        model: Which model of the run; may be left out where it has one.
        fold: Which fold of the run; None averages all that are done.

    Raises:
        RunError: It is not clear, or not there, what is to be used of the run.
        ModelError: The file cannot be used.
    """
    if not source.is_dir():
        if model is not None or fold is not None:
            raise RunError(f"--model and --fold choose from a RUN, received the file {source}")
        return OnnxModel(source)
    run = open_run(source)
    names = [name for name in run.recipes if is_network(name)]
    if not names:
        raise RunError(f"Expected a network in {source}, received {', '.join(run.recipes)} alone")
    if model is None and len(names) > 1:
        raise RunError(f"{source} has the models {', '.join(names)}; choose one with --model")
    if model is not None and model not in names:
        raise RunError(f"Expected --model of {', '.join(names)} for {source}, received {model}")
    if fold is not None and fold >= len(run.folds):
        raise RunError(f"Expected --fold from 0 to {len(run.folds) - 1}, received {fold}")
    return FoldAverage(run, model or names[0], fold)


@dataclass(frozen=True)
class Prediction:
    """What became of one picture.

    Attributes:
        picture: The picture.
        box: The face that was classified, pixels, or None.
        probabilities: (K,) float32, or None where no face was classified.
        error: Why the picture cannot be read, or None.
    """

    picture: LabelledPicture
    box: Box | None = None
    probabilities: NDArray[np.float32] | None = None
    error: str | None = None

    @property
    def status(self) -> str:
        """``ok``, ``no_face`` or ``error``."""
        if self.error is not None:
            return "error"
        return "no_face" if self.probabilities is None else "ok"


def predict_pictures(
    model: Model, pictures: Sequence[LabelledPicture], detector: FaceDetector
) -> list[Prediction]:
    """Classify the largest face of each picture; one that cannot be read does not stop the rest."""
    boxes: dict[int, Box] = {}
    errors: dict[int, str] = {}
    inputs = [prepare(np.zeros((1, 1), np.uint8), [], model.spec)]
    for number, picture in enumerate(pictures):
        try:
            frame = read_image(picture.path)
        except ImageError as error:
            errors[number] = error.message
            continue
        for face in detector.detect(frame)[:1]:
            boxes[number] = face.box
            # A face that is the whole frame is scaled, not cut to a square.
            whole = (0, 0, frame.shape[1], frame.shape[0])
            inputs.append(prepare(frame, [None if face.box == whole else face.box], model.spec))
    rows = dict(zip(boxes, model.probabilities(np.concatenate(inputs)), strict=True))
    return [
        Prediction(picture, boxes.get(number), rows.get(number), errors.get(number))
        for number, picture in enumerate(pictures)
    ]


def describe_predictions(
    predictions: Sequence[Prediction],
    labels: Sequence[str],
    data: LabelledSet,
    root: Path,
    title: str,
    pages: int,
) -> Document:
    """Make the document of a data set's predictions.

    Args:
        predictions: One for each picture.
        labels: The model's emotions.
        data: The pictures, and how many were left out.
        root: Folder that the pictures' names are relative to.
        title: Of the document.
        pages: Most pages of pictures; where there are more, those shown are spread evenly.

    Returns:
        The document; attached to it ``predictions.csv`` and ``metrics.json``.
    """
    columns = {class_name(label): place for place, label in enumerate(labels)}
    known = [
        (columns[emotion], row)
        for each in predictions
        if (row := each.probabilities) is not None
        and (emotion := each.picture.emotion) is not None
        and emotion in columns
    ]
    unknown = Counter(
        each.picture.emotion
        for each in predictions
        if each.status == "ok" and each.picture.emotion not in (None, *columns)
    )
    evaluated = [each for each in predictions if each.status == "ok"]
    counts = {
        "pictures": len(predictions),
        "without a face that was found": sum(each.status == "no_face" for each in predictions),
        "unreadable": sum(each.status == "error" for each in predictions),
        "classified": len(evaluated),
        "classified and of an emotion that the model knows": len(known),
        **{f"of {name}, which the model does not know": n for name, n in sorted(unknown.items())},
        **{f"left out: {reason}": count for reason, count in data.skipped.items()},
    }
    blocks: list[Block] = [
        Heading("Pictures"),
        Table(
            "What was classified",
            ["kind", "pictures"],
            [[kind, f"{count:,}"] for kind, count in counts.items()],
        ),
    ]
    attachments = {"predictions.csv": _predictions_csv(predictions, labels, root)}
    if known:
        true, rows = zip(*known, strict=True)
        scores = classification_metrics(np.asarray(true, np.int64), np.stack(rows))
        faceless = [each for each in predictions if each.status == "no_face"]
        missed = sum(each.picture.emotion in columns for each in faceless)
        scores["accuracy_faceless_wrong"] = scores["accuracy"] * len(known) / (len(known) + missed)
        blocks += _score_blocks(scores, labels)
        # JSON has no word for what is not a number, such as the AUC of a single emotion.
        plain = {name: None if value != value else value for name, value in scores.items()}
        attachments["metrics.json"] = json.dumps(plain, indent=1) + "\n"
    if evaluated and pages:
        blocks += _page_blocks(evaluated, labels, root, pages)
    return Document(title, blocks, attachments)


def _score_blocks(scores: Mapping[str, Any], labels: Sequence[str]) -> list[Block]:
    counts = np.asarray(scores["confusion"])
    figures = {
        "confusion": plots.confusion(normalise_confusion(counts), labels, "By true emotion"),
        "confusion-counts": plots.confusion(counts, labels, "Pictures"),
    }
    alts = {
        "confusion": "Confusion matrix normalised by true emotion",
        "confusion-counts": "Confusion matrix, number of pictures",
    }
    return [
        Heading("Scores"),
        Text("Over the pictures that were classified and whose emotion the model knows."),
        Table(
            "Scores",
            ["score", "value"],
            [
                [title, format_score(name, scores[name])]
                for name, title in {**SCORES, **_FACELESS}.items()
            ],
        ),
        class_report(scores, labels, "Classification report"),
        Gallery(
            [Picture(name, alts[name], plots.to_svg(figure)) for name, figure in figures.items()]
        ),
    ]


def _page_blocks(
    evaluated: Sequence[Prediction], labels: Sequence[str], root: Path, pages: int
) -> list[Block]:
    most = min(len(evaluated), pages * PAGE_PICTURES)
    shown = [evaluated[index] for index in np.linspace(0, len(evaluated) - 1, most).astype(int)]
    pictures = []
    for start in range(0, most, PAGE_PICTURES):
        page = shown[start : start + PAGE_PICTURES]
        figure = plots.prediction_page(
            [_thumbnail(each) for each in page],
            [each.probabilities for each in page if each.probabilities is not None],
            labels,
            [_name(each, root) for each in page],
            [each.picture.emotion for each in page],
        )
        number = start // PAGE_PICTURES + 1
        alt = f"Pictures beside the probabilities of their emotions, page {number}"
        pictures.append(Picture(f"page-{number:03d}", alt, plots.to_png(figure)))
    return [
        Heading("Predictions"),
        Text(
            f"{most:,} of {len(evaluated):,} classified pictures"
            + (", spread evenly over the data set" if most < len(evaluated) else "")
            + "; dark is the prediction, hatched the true emotion."
        ),
        *(Gallery([picture], wide=True) for picture in pictures),
    ]


def _thumbnail(prediction: Prediction) -> Frame:
    """Read the classified face again, small and in RGB, so that not all are kept in memory."""
    frame = read_image(prediction.picture.path)
    whole = prediction.box in (None, (0, 0, frame.shape[1], frame.shape[0]))
    face = frame if prediction.box is None or whole else crop_face(frame, prediction.box)
    height, width = face.shape[:2]
    scale = min(1.0, _SHOWN_SIDE / max(height, width))
    return resize(face, (max(1, round(height * scale)), max(1, round(width * scale))))[:, :, ::-1]


def _name(prediction: Prediction, root: Path) -> str:
    return prediction.picture.path.relative_to(root).as_posix()


def _predictions_csv(predictions: Sequence[Prediction], labels: Sequence[str], root: Path) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["image", "status", "error", "x", "y", "w", "h", "emotion", "predicted", *labels]
    )
    for each in predictions:
        row = [
            plain_cell(_name(each, root)),
            each.status,
            plain_cell(each.error or ""),
            *(each.box or [""] * 4),
            each.picture.emotion or "",
        ]
        if each.probabilities is not None:
            row.append(labels[int(each.probabilities.argmax())])
            row += [f"{value:.6f}" for value in each.probabilities.tolist()]
        writer.writerow(row)
    return text.getvalue()
