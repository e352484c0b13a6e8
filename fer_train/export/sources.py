"""What is exported: a trained Keras file, and all that is known of how it came about."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.contract import INPUT_NAME, OUTPUT_NAME, Description, ModelSpec
from fer_edge.errors import DataError, RunError
from fer_edge.inference.describe import describe_model
from fer_edge.inference.onnx_file import ModelFile, Tensor
from fer_train.data.emotions import make_labelling
from fer_train.data.form import Form, ImageColor
from fer_train.data.load import Dataset, PictureFormError, load_dataset
from fer_train.data.votes import vote_targets
from fer_train.export.convert import SCORES, file_digest, load_classifier
from fer_train.export.facts import (
    folder_facts,
    log_files,
    read_facts,
    stage_facts,
    training_facts,
)
from fer_train.export.held_out import HeldOut
from fer_train.run.evaluation import evaluate_model
from fer_train.run.folder import DONE, HISTORY, Run, RunFold, read_json
from fer_train.run.metrics import selection_score
from fer_train.run.plan import load_images, load_run_images
from fer_train.run.recipes import Recipe

HELD_OUT = "the held-out fold"

SOURCE = "source_sha256"
"""The fact that tells of which Keras file an exported one is."""


@dataclass(frozen=True)
class Earlier:
    """What a model went on from.

    Attributes:
        stages: Its trainings, oldest first, as `stage_facts` gives them.
        logs: The text of each training's ``history.csv``.
        weights: The Keras file that came of them.
    """

    stages: list[dict[str, Any]]
    logs: list[str]
    weights: Path


@dataclass(frozen=True)
class Source:
    """A trained model that is to be exported.

    Attributes:
        name: Of its files: ``NAME.onnx`` and so on.
        keras_file: The weights.
        spec: How these are fed and read, and what the ONNX files say of their origin.
        facts: How it was trained, see `training_facts`; its card is made from them.
        log: The text of its ``history.csv``, or "".
        earlier: What it went on from, oldest first.
        home: Where its exports go if the usual folder holds another training's.
        recipe: Its settings, with the code of a model of one's own; None of a file's.
    """

    name: str
    keras_file: Path
    spec: ModelSpec
    facts: dict[str, Any]
    log: str
    earlier: list[Earlier]
    home: Path
    recipe: Recipe | None = None

    @property
    def logs(self) -> list[str]:
        """The logs of its earlier stages, oldest first."""
        return [log for one in self.earlier for log in one.logs]


@dataclass(frozen=True)
class Pictures:
    """The images that an export needs.

    Attributes:
        training: uint8 (N, S, S) or (N, S, S, 3) images that the model trained on.
        held_out: Images that it did not train on, or None where there are none.
        prior: Share of each label in the votes for the training images; empty where none are known.
    """

    training: NDArray[np.uint8] = field(
        default_factory=lambda: np.empty((0, 48, 48), np.uint8), repr=False
    )
    held_out: HeldOut | None = None
    prior: tuple[float, ...] = ()


def best_fold(run: Run, model: str) -> RunFold:
    """Return the fold whose kept epoch was best on the images that steered its training.

    With an inner split these are not the images that the fold is evaluated on, so the choice does
    not make the exported model's scores look better than they are.

    Raises:
        RunError: A fold is not done.
    """
    folds = evaluate_model(run, model).folds
    kept = [
        fold.curves[selection_score(fold.curves)][int(fold.score["kept_epoch"]) - 1]
        for fold in folds
    ]
    return folds[int(np.argmax(kept))]


def fold_source(fold: RunFold, earlier: Sequence[Run | Path] = (), licence: str = "") -> Source:
    """Return what is exported of a fold.

    Args:
        fold: The fold.
        earlier: What its model went on from, oldest first: runs, of which the fold of the same
            model and number counts, or exported ``MODEL.keras`` with facts and logs beside them.
        licence: SPDX identifier of the weights' licence, or "".

    Raises:
        RunError: The fold or an earlier one is not done, or a file cannot be read.
    """
    fold.check_done()
    protocol = fold.run.protocol
    return _source(
        fold.model,
        fold.keras_file,
        dataclasses.replace(
            protocol.form.spec,
            labels=protocol.labels,
            # Runs of before the prior was kept have none.
            prior=tuple(fold.score.get("prior", ())),
            model=fold.model,
            recipe=fold.recipe.name,
            fold=fold.index,
            dataset=Path(protocol.data).name,
            dataset_digest=fold.run.dataset_digest,
            scores={name: float(fold.score[name]) for name in SCORES},
            licence=licence,
        ),
        training_facts(fold),
        read_log(fold.history_file),
        [_earlier(source, fold.model, fold.index) for source in earlier],
        fold.run.folder / "exported",
        fold.recipe,
    )


def file_source(
    path: Path,
    description: Description,
    *,
    facts_folder: Path | None = None,
    earlier: Sequence[Run | Path] = (),
    notes: Sequence[str] = (),
    licence: str = "",
    recipe: Recipe | None = None,
) -> Source:
    """Return what is exported of a Keras file of any origin.

    Args:
        path: The file, or the folder of a SavedModel, of float32 (N, height, width, 1 or 3) to
            (N, K).
        description: How it is fed and read. What it leaves open is read from ``FILE.toml`` beside
            it, from the facts and from its shapes; levels are 0-255 if nothing says otherwise.
        facts_folder: A folder as for `folder_facts`.
        earlier: As for `fold_source`.
        notes: Sentences for its card, on what no file tells.
        licence: As for `fold_source`.
        recipe: With the code that has the file's own layers, if there are any.

    Raises:
        ExportError: It is no such model.
        ModelError: It is not what the description says, or that says too little.
        RunError: A file cannot be read.
    """
    name = path.name if path.is_dir() else path.stem
    facts: dict[str, Any] = {"model": name}
    log, scores, prior = "", {}, ()
    given = {"layout": "nhwc", **description}
    if facts_folder is not None:
        facts = folder_facts(facts_folder, name)
        if "labels" in facts:
            given = {"labels": facts.pop("labels"), **given}
        if (facts_folder / HISTORY).is_file():
            log = read_log(facts_folder / HISTORY)
        if (facts_folder / DONE).is_file():
            score = read_json(facts_folder / DONE)
            scores = {key: float(score[key]) for key in SCORES if key in score}
            prior = tuple(score.get("prior", ()))
    if not path.with_suffix(".toml").is_file():
        given = {"range": (0.0, 255.0), **given}
    net = load_classifier(path, recipe)
    shown = ModelFile(
        path,
        inputs=(Tensor(INPUT_NAME, "float", tuple(net.input_shape)),),
        outputs=(Tensor(OUTPUT_NAME, "float", tuple(net.output_shape)),),
    )
    spec, _ = describe_model(shown, {"prior": prior, **given} if prior else given)
    spec = dataclasses.replace(
        spec,
        model=facts["model"],
        recipe=facts.get("recipe", {}).get("name", ""),
        fold=0 if facts.get("folds") == 1 else None,
        dataset=facts.pop("dataset", ""),
        dataset_digest=facts.pop("dataset_digest", ""),
        scores=scores,
        licence=licence,
    )
    facts |= {"parameters": net.count_params()} | ({"notes": list(notes)} if notes else {})
    before = [_earlier(source, facts["model"], 0) for source in earlier]
    home = path.with_name(f"{name}-exported")
    return _source(name, path, spec, facts, log, before, home, recipe)


def _source(
    name: str,
    keras_file: Path,
    spec: ModelSpec,
    facts: dict[str, Any],
    log: str,
    earlier: list[Earlier],
    home: Path,
    recipe: Recipe | None,
) -> Source:
    stages = [stage for one in earlier for stage in one.stages]
    facts = facts | {"earlier": stages, SOURCE: file_digest(keras_file)}
    return Source(name, keras_file, spec, facts, log, earlier, home, recipe)


def _earlier(source: Run | Path, model: str, index: int) -> Earlier:
    if isinstance(source, Run):
        fold = source.fold(model, index)
        stage = stage_facts(training_facts(fold) | {"single": fold.score})
        return Earlier([stage], [read_log(fold.history_file)], fold.keras_file)
    facts = read_facts(source)
    if source.suffix != ".keras" or facts.get("model") != model:
        raise RunError(f"Expected a run or an exported {model}.keras, received {source}")
    stages = [*facts["earlier"], stage_facts(facts)]
    logs = [read_log(path) for path in log_files(source, len(facts["earlier"]))]
    return Earlier(stages, logs, source)


def read_log(path: Path) -> str:
    """Return the text of a ``history.csv``.

    Raises:
        RunError: It cannot be read.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise RunError(f"Expected the log of a training at {path}: {error}") from error


def fold_pictures(fold: RunFold, data: str | None = None, votes: str | None = None) -> Pictures:
    """Return the images that a fold trained on, and those that its files are evaluated on.

    PublicTest is the test set where no fold has seen it, else the fold's own held-out images.

    Args:
        fold: The fold.
        data: Where its run's data set lies on this machine.
        votes: A csv of votes for it; those that the run keeps where None.

    Raises:
        RunError: The data set is another.
        DataError: It cannot be read.
    """
    protocol = fold.run.protocol
    dataset = load_run_images(fold.run, data, votes)
    held, name = dataset.subset(fold.split.test), HELD_OUT
    if protocol.folds == 1:
        name = _usage_of(held)
    elif protocol.pool == "training":
        if votes is None and protocol.votes and Path(protocol.votes).is_file():
            # Those that the run keeps are for its own images alone.
            votes = protocol.votes
        whole = load_images(
            dataclasses.replace(protocol, data=data or protocol.data, pool="all", votes=votes)
        )
        untouched = whole.usage == "PublicTest"
        if untouched.any():
            held, name = whole.subset(untouched), "PublicTest"
    return Pictures(dataset.images[fold.split.train], _held_out(name, held))


def file_pictures(
    data: str, spec: ModelSpec, votes: str | None = None, labels_map: Sequence[str] = ()
) -> Pictures:
    """Return the images of a data set for a file of which nobody knows what it trained on.

    Those of its test share are held out. Where it has none, they are drawn at random.

    Args:
        data: As for `load_dataset`.
        spec: The model's; other names of an emotion count. Pictures that are not FER-2013's size
            or colour are made the model's.
        votes: A csv of votes for it, or None.
        labels_map: What names and numbers in the data set mean, see `make_labelling`.

    Raises:
        DataError: The data set cannot be read, or has no image of these labels.
    """
    labelling = make_labelling([label.lower() for label in spec.labels], labels_map)
    load = partial(load_dataset, data, votes=votes, labelling=labelling)
    try:
        dataset = load()
    except PictureFormError:
        color: ImageColor = "gray" if spec.channels == 1 else "rgb"
        dataset = load(form=Form(max(spec.input_size), color))
    if not len(dataset):
        raise DataError(f"Expected images of {', '.join(spec.labels)} in {data}, found none")
    shares = [dataset.usage == usage for usage in ("PublicTest", "PrivateTest")]
    test = next((share for share in shares if share.any()), None)
    if test is None:
        test = np.random.default_rng(0).permutation(len(dataset)) >= len(dataset) // 2
        name = f"one half of {dataset.name}, which it may have trained on"
    else:
        name = _usage_of(dataset.subset(test))
    training = dataset.usage == "Training"
    taught = dataset.subset(training if training.any() else ~test)
    return Pictures(taught.images, _held_out(name, dataset.subset(test)), _prior(taught))


def _prior(taught: Dataset) -> tuple[float, ...]:
    """Return the mean of what votes teach of images; empty where one label is never taught."""
    if taught.votes is None:
        return ()
    targets = vote_targets(taught.votes, taught.label_names)
    shares = targets.shares[targets.trains].sum(axis=0, dtype=np.float64)
    return tuple((shares / shares.sum()).round(6).tolist()) if shares.all() else ()


def _held_out(name: str, held: Dataset) -> HeldOut:
    return HeldOut(name, held.images, held.labels, held.label_names, held.votes)


def _usage_of(dataset: Dataset) -> str:
    """Return the names of the shares of FER-2013 that images are, or say what they are."""
    usages = sorted(set(dataset.usage.tolist()), reverse=True)
    return " and ".join(usages) if all(usages) else HELD_OUT
