"""The run folder: what is in it, how it is written, who may write it.

    RUN/
    ├── config.json        data set and its digest, teacher, folds, the recipe of each model
    ├── folds.json         the images of each fold
    ├── votes.npz          what people saw in each image, where the run is taught it
    ├── groups.npz         the person or clip of each image, where the folds go by it
    ├── results.csv        one row a fold, once all are done
    ├── lock               held by the process that schedules
    ├── programs/          what JAX has compiled, by its version and device
    ├── MODEL/NAME.py      the code of a model of one's own
    └── MODEL/fold-00/
        ├── lock               held by the process that trains
        ├── checkpoint-NNN.npz weights, optimizer, random state and history after epoch NNN
        ├── best-NNN.npz       weights of the best epoch so far
        ├── history.csv        one row an epoch
        ├── predictions.npz    index, name, label and probabilities of each image held out
        ├── model.keras        the evaluated model, float32
        ├── record.json        command, versions, commit, host and time of each sitting
        └── metrics.json       scores and seconds; written last: the fold is done

Every file is written under another name and then renamed, so that none is ever half a file.
"""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import filelock
import numpy as np
from numpy.typing import NDArray

from fer_edge import __version__
from fer_edge.errors import RunError
from fer_train.data.folds import Fold
from fer_train.data.load import Dataset
from fer_train.data.votes import Votes
from fer_train.run.model_file import code_digest
from fer_train.run.recipes import Protocol, Recipe, saved_protocol, saved_recipe
from fer_train.run.votes import all_scores

FORMAT = 1
CONFIG = "config.json"
DONE = "metrics.json"
"""The file of a fold that is written last."""
PREDICTIONS = "predictions.npz"
KERAS_FILE = "model.keras"
HISTORY = "history.csv"
RECORD = "record.json"
RESULTS = "results.csv"
LOCK = "lock"
PROGRAMS = "programs"
VOTES = "votes.npz"
GROUPS = "groups.npz"
TEACHER = "teacher.npz"
TEACHER_MODEL = "teacher.keras"
TEACHERS = "teachers"
"""The folder of the files that teach by views."""

SEED_FOLDER = "seed-{}"
"""Where the run of a seed lies, in the folder of several."""

Curves = Mapping[str, NDArray[np.float64]]
"""Columns of history.csv, each with one value an epoch."""

Teacher = Literal["folds", "files"]
"""Who teaches the students of a run: the out-of-fold predictions of another run's folds, kept in
`TEACHER`, or finished models, kept in `TEACHER_MODEL` or in `TEACHERS`."""


class FoldId(NamedTuple):
    """One fold of one model of a run: an independent piece of work.

    Attributes:
        model: Name of the model.
        fold: Index of the fold, from 0.
    """

    model: str
    fold: int

    def __str__(self) -> str:
        """Return it as messages name it, such as ``edge fold 0``."""
        return f"{self.model} fold {self.fold}"


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file under a temporary name, then rename it to ``path``.

    Raises:
        RunError: The file cannot be written, on a full disk for example; ``path`` is as it was.
    """
    _make_parent(path)
    # The ending stays: numpy and Keras choose the format by it.
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def delete_half_written(folder: Path) -> None:
    """Delete what kills have left of `write_atomic`, in a folder whose lock the caller holds."""
    for path in folder.glob(".*-*"):
        if path.name[1:].partition("-")[0].isdigit():
            path.unlink(missing_ok=True)


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> RunError:
    return RunError(
        f"Could not write {path}: {error.strerror or error}; free some space or choose another "
        "--run folder, then start the same command again: it goes on where it was"
    )


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomic(path, lambda temporary: temporary.write_text(text, "utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    write_atomic(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of the run folder.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"Expected a file that fer-train wrote at {path}: {error}") from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays with a SHA-256 over them, so that a damaged file is noticed."""

    def write(temporary: Path) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        payload = buffer.getbuffer()
        with temporary.open("wb") as file:
            file.write(payload)
            file.write(hashlib.sha256(payload).digest())

    write_atomic(path, write)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote.

    Raises:
        RunError: The file is missing or its digest does not fit.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"Could not read {path}: {error.strerror}") from error
    payload, digest = data[:-32], data[-32:]
    if hashlib.sha256(payload).digest() != digest:
        raise RunError(f"Expected {path} as it was written, received a damaged file; delete it")
    with np.load(io.BytesIO(payload)) as archive:
        return dict(archive)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file while the block runs; it is free again when the process dies.

    Raises:
        RunError: Another process holds it, and ``wait`` is not set; or it cannot be made.
    """
    _make_parent(path)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(filelock.FileLock(path, timeout=-1 if wait else 0))
        except filelock.Timeout as error:
            raise RunError(
                f"Another process is training in {path.parent}; wait for it or choose another --run"
            ) from error
        except OSError as error:
            raise _cannot_write(path, error) from error
        yield


@contextlib.contextmanager
def locked_run(folder: Path) -> Iterator[None]:
    """Hold a run folder while a run is planned and trained; a plan that fails leaves no folder.

    Raises:
        RunError: Another process holds it, other things lie in it, or it cannot be made.
    """
    refuse_foreign(folder)
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    lock = folder / LOCK
    with locked(lock):
        try:
            yield
        finally:
            # Nothing was planned: only the lock was made, and the folders above it.
            if missing and [path.name for path in folder.iterdir()] == [LOCK]:
                with contextlib.suppress(OSError):
                    lock.unlink()
                    for place in missing:
                        place.rmdir()


@dataclass(frozen=True)
class Run:
    """A run folder that has been set up.

    Attributes:
        folder: Where it lies.
        protocol: The data and how it is split.
        dataset_digest: SHA-256 of the data set that was loaded.
        recipes: Settings of each model.
        folds: The folds, the same for all models.
        teacher: Who teaches its models besides the labels, or None.
        votes_digest: SHA-256 of the votes that it keeps, or None.
        groups_digest: SHA-256 of the groups that it keeps, or None.
        unsaid: Models and settings of theirs that are newer than the folder: it goes on without
            them, whatever their defaults are now.
        store: Address of its copy in object storage, see `fer_train.run.store`, or None.
        logs: The experiment trackers that are told of its folds, of `fer_train.run.recipes.LOGS`.
    """

    folder: Path
    protocol: Protocol
    dataset_digest: str
    recipes: Mapping[str, Recipe]
    folds: list[Fold]
    teacher: Teacher | None = None
    votes_digest: str | None = None
    groups_digest: str | None = None
    unsaid: frozenset[tuple[str, str]] = frozenset()
    store: str | None = None
    logs: tuple[str, ...] = ()

    def fold(self, model: str, index: int) -> "RunFold":
        """Return a fold of one of the models, by its index from 0."""
        return RunFold(self, model, self.folds[index])

    def folds_of(self, model: str) -> list["RunFold"]:
        """Return all folds of one of the models."""
        return [RunFold(self, model, split) for split in self.folds]

    def scores(self, model: str) -> list[dict[str, Any]]:
        """Return what metrics.json holds, fold by fold.

        Raises:
            RunError: Some folds are not done yet; names them.
        """
        folds = self.folds_of(model)
        if missing := [fold.index for fold in folds if not fold.is_done]:
            raise RunError(
                f"Expected all folds of {model} in {self.folder} to be done, received none of "
                f"{', '.join(map(str, missing))}; start fer-train all on it again"
            )
        return [fold.score for fold in folds]

    def keep_votes(self, votes: Votes) -> None:
        """Write the votes for all images of the run, so that every fold has them."""
        write_arrays(self.folder / VOTES, {"votes": votes})

    def keep_groups(self, groups: NDArray[np.str_]) -> None:
        """Write the person or clip of each image of the run."""
        write_arrays(self.folder / GROUPS, {"groups": groups})

    @cached_property
    def groups(self) -> NDArray[np.str_] | None:
        """The groups that the run keeps: (N,) for all its images; None if it has none.

        Raises:
            RunError: They are gone or damaged.
        """
        if self.groups_digest is None:
            return None
        groups = read_arrays(self.folder / GROUPS)["groups"]
        if digest_of(groups) != self.groups_digest:
            raise RunError(f"Expected the groups that {self.folder} began with, received others")
        return groups

    @cached_property
    def votes(self) -> Votes | None:
        """The votes that the run keeps: (N, 10) for all its images; None if it has none.

        Raises:
            RunError: They are gone or damaged.
        """
        if self.votes_digest is None:
            return None
        votes = read_arrays(self.folder / VOTES)["votes"]
        if digest_of(votes) != self.votes_digest:
            raise RunError(f"Expected the votes that {self.folder} began with, received others")
        return votes

    @property
    def code_files(self) -> dict[str, str]:
        """The code of models of one's own, by where it lies in the run folder."""
        return {
            _code_file(model, recipe.model_file): recipe.code
            for model, recipe in self.recipes.items()
            if recipe.code
        }

    def save(self) -> None:
        """Write config.json, last, folds.json and the code of models of one's own."""
        for name, code in self.code_files.items():
            write_bytes(self.folder / name, code.encode())
        write_json(
            self.folder / "folds.json",
            [
                {
                    "index": fold.index,
                    "train": fold.train.tolist(),
                    "inner": fold.inner.tolist(),
                    "test": fold.test.tolist(),
                    "copies": fold.copies.tolist(),
                }
                for fold in self.folds
            ],
        )
        write_json(self.folder / CONFIG, self._config())

    def _config(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "package_version": __version__,
            "dataset_digest": self.dataset_digest,
            "teacher": self.teacher,
            "votes_digest": self.votes_digest,
            "groups_digest": self.groups_digest,
            "protocol": dataclasses.asdict(self.protocol),
            "models": {
                name: {
                    setting: value
                    for setting, value in recipe.plain().items()
                    if (name, setting) not in self.unsaid
                }
                for name, recipe in self.recipes.items()
            },
        }

    def check_same(self, other: "Run") -> None:
        """Check that another run would do the same work.

        Raises:
            RunError: It would not; names what differs.
        """
        # The digests tell whether data, votes and groups are the same, wherever they lie now.
        moved = dataclasses.replace(
            other.protocol,
            data=self.protocol.data,
            votes=self.protocol.votes,
            groups=self.protocol.groups,
        )
        if self.protocol.form.input_shape == other.protocol.form.input_shape:
            # Pictures that were scaled, or were of that size before.
            moved = dataclasses.replace(
                moved, color=self.protocol.color, image_size=self.protocol.image_size
            )
        pairs: list[tuple[str, Any, Any]] = [("", self.protocol, moved)]
        # A model that only one of them has is no difference: models can be added to a run.
        pairs += [
            (name, recipe, other.recipes[name])
            for name, recipe in self.recipes.items()
            if name in other.recipes
        ]
        differences = [
            f"the code of {name} in {there.model_file} is another"
            if field.name == "code"
            else f"{name} {field.name} {getattr(there, field.name)!r} there, ".lstrip()
            + f"{getattr(asked, field.name)!r} asked for"
            for name, there, asked in pairs
            for field in dataclasses.fields(there)
            if getattr(there, field.name) != getattr(asked, field.name)
            and (name, field.name) not in self.unsaid
        ]
        if self.dataset_digest != other.dataset_digest:
            differences.append(f"the images or labels of {other.protocol.data} are others")
        if self.votes_digest != other.votes_digest:
            there, asked = (run.protocol.votes or "none" for run in (self, other))
            differences.append(f"other votes: {there} there, {asked} asked for")
        if self.groups_digest != other.groups_digest:
            there, asked = (run.protocol.groups or "none" for run in (self, other))
            differences.append(f"other groups: {there} there, {asked} asked for")
        if differences:
            raise RunError(
                f"{self.folder} holds a run of other settings ({'; '.join(differences)}); give the "
                "same flags or choose another --run"
            )


@dataclass(frozen=True)
class RunFold:
    """One fold of one model of a run: where it lies, and what came of it.

    Attributes:
        run: The run.
        model: Name of the model.
        split: The images that train it, steer it and are held out.
    """

    run: Run
    model: str
    split: Fold

    def __str__(self) -> str:
        """Name it as messages do."""
        return f"fold {self.index} of {self.model} in {self.run.folder}"

    @property
    def index(self) -> int:
        """Number of the fold, from 0."""
        return self.split.index

    @property
    def id(self) -> FoldId:
        """What names it within its run."""
        return FoldId(self.model, self.index)

    @property
    def part(self) -> str:
        """Where its files lie in the run folder, or in a copy of it."""
        return f"{self.model}/fold-{self.index:02d}"

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.run.folder / self.part

    @property
    def keras_file(self) -> Path:
        """The trained model."""
        return self.folder / KERAS_FILE

    @property
    def history_file(self) -> Path:
        """The log of its epochs."""
        return self.folder / HISTORY

    @property
    def recipe(self) -> Recipe:
        """The model's settings."""
        return self.run.recipes[self.model]

    @property
    def is_done(self) -> bool:
        """Whether it is complete."""
        return (self.folder / DONE).is_file() and (self.folder / PREDICTIONS).is_file()

    def check_done(self) -> None:
        """Check that it is complete.

        Raises:
            RunError: It is not; says which command completes it.
        """
        if not self.is_done:
            raise RunError(
                f"Expected {self} to be done; start fer-train fold --model {self.model} --fold "
                f"{self.index} on it"
            )

    def write_file(self, name: str, content: bytes) -> None:
        """Write a file of it that another machine has made."""
        write_atomic(self.folder / name, lambda path: path.write_bytes(content))

    def write_results(
        self,
        dataset: Dataset,
        probabilities: NDArray[np.float32],
        facts: Mapping[str, Any],
    ) -> None:
        """Write predictions.npz and then metrics.json, which marks the fold as done.

        Args:
            dataset: All images of the run, labels in the order of the protocol's.
            probabilities: (n, K) what the model says of its test images.
            facts: What metrics.json says besides the scores, such as the seconds.
        """
        emotions, held_out = self.run.protocol.labels, dataset.subset(self.split.test)
        write_arrays(
            self.folder / PREDICTIONS,
            {
                "index": self.split.test,
                "name": np.char.encode(held_out.names, "utf-8"),
                "label": held_out.labels,
                "probabilities": probabilities,
            },
        )
        scores = all_scores(held_out.labels, probabilities, emotions, held_out.votes)
        trained = np.bincount(dataset.labels[self.split.train], minlength=len(emotions))
        write_json(
            self.folder / DONE, scores | {"training_support": trained.tolist()} | dict(facts)
        )

    @cached_property
    def score(self) -> dict[str, Any]:
        """What metrics.json holds and, of a network, ``loss``: log-loss and penalty of weights."""
        found = dict(read_json(self.folder / DONE))
        if "penalty" in found:
            found["loss"] = found["log_loss"] + found["penalty"]
        return found

    @property
    def record(self) -> list[dict[str, Any]]:
        """What record.json holds, a sitting each; nothing of a fold that no command trained."""
        path = self.folder / RECORD
        return list(read_json(path)) if path.is_file() else []

    @cached_property
    def curves(self) -> Curves:
        """What history.csv holds; nothing of a model that is not trained by epochs."""
        return read_curves(self.history_file) if self.history_file.is_file() else {}


def read_curves(path: Path) -> Curves:
    """Read a history.csv.

    Raises:
        RunError: It cannot be read, or is no table of numbers.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
        # Other programs leave cells empty for what is not a number.
        return {name: np.asarray([float(row[name] or "nan") for row in rows]) for name in rows[0]}
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise RunError(f"Expected a table of numbers in {path}, received {error}") from error


def digest_of(values: Votes | NDArray[np.str_]) -> str:
    """Return the SHA-256 of votes or groups."""
    if values.dtype.kind == "U":
        return hashlib.sha256("\n".join(values.tolist()).encode()).hexdigest()
    return hashlib.sha256(np.ascontiguousarray(values, "<i8").data).hexdigest()


def write_curves(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write a history.csv: the scores of each epoch, which is counted from 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([[f"{value:.6g}" for value in row.values()] for row in rows])
    write_text(path, text.getvalue())


def open_run(folder: Path) -> Run:
    """Open a run folder that `Run.save` made.

    Raises:
        RunError: There is none, or it is damaged or of another version.
    """
    if not (folder / CONFIG).is_file():
        raise RunError(f"Expected a run folder of fer-train, received {folder}")
    config = read_json(folder / CONFIG)
    if "task" in config:
        raise RunError(
            f"Expected a run of emotion models, received one of {config['task']} in {folder}; give "
            "it to fer-train detector or fer-train report"
        )
    if config.get("format") != FORMAT:
        raise RunError(
            f"Expected a run folder of format {FORMAT}, received {config.get('format')!r} in "
            f"{folder}; use the version of fer-edge that made it"
        )
    try:
        protocol = saved_protocol(config["protocol"])
        recipes = {
            name: saved_recipe(name, settings | _kept_code(folder, name, settings))
            for name, settings in config["models"].items()
        }
    except (KeyError, TypeError) as error:
        raise RunError(
            f"Expected the settings of this version of fer-train in {folder}, received {error}"
        ) from error
    folds = [
        Fold(
            fold["index"],
            # Older folders do not tell of copies.
            *(
                np.asarray(fold.get(part, ()), np.int64)
                for part in ("train", "inner", "test", "copies")
            ),
        )
        for fold in read_json(folder / "folds.json")
    ]
    teacher = config["teacher"] if "teacher" in config else _unsaid_teacher(folder)
    if teacher is not None and teacher not in get_args(Teacher):
        raise RunError(f"Expected a teacher of folds or files in {folder}, received {teacher!r}")
    return Run(
        folder,
        protocol,
        config["dataset_digest"],
        recipes,
        folds,
        teacher,
        votes_digest=config.get("votes_digest"),
        groups_digest=config.get("groups_digest"),
        unsaid=frozenset(
            (name, field.name)
            for name, settings in config["models"].items()
            for field in dataclasses.fields(Recipe)
            if field.name not in settings
        ),
    )


def code_places(folder: Path) -> list[str]:
    """Return where the code of models of one's own lies in a run folder, by its config.json.

    Raises:
        RunError: That is damaged.
    """
    models = read_json(folder / CONFIG)["models"]
    return [
        _code_file(model, settings["model_file"])
        for model, settings in models.items()
        if settings.get("model_file")
    ]


def _code_file(model: str, model_file: str) -> str:
    return f"{model}/{model_file.partition(':')[0]}"


def _kept_code(folder: Path, model: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the code of a model of one's own that a run folder keeps."""
    if not settings.get("model_file"):
        return {}
    path = folder / _code_file(model, settings["model_file"])
    try:
        code = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"Expected the code of {model} at {path}: {error}") from error
    if code_digest(code) != settings["code"]:
        raise RunError(
            f"Expected {path} as {folder} began with it, received other code; undo the change, or "
            "choose another --run for it"
        )
    return {"code": code}


def runs_in(folder: Path) -> list[Path]:
    """Return the run folders of a folder: itself, or those of its seeds, as `SEED_FOLDER` names."""
    if (folder / CONFIG).is_file():
        return [folder]
    seeds = [path.parent for path in folder.glob(f"{SEED_FOLDER.format('*')}/{CONFIG}")]
    return sorted(seeds, key=lambda path: (len(path.name), path.name)) or [folder]


def _unsaid_teacher(folder: Path) -> Teacher | None:
    """Return who teaches in a run folder made before config.json said it."""
    if (folder / TEACHER_MODEL).is_file() or (folder / TEACHERS).is_dir():
        return "files"
    return "folds" if (folder / TEACHER).is_file() else None


def run_task(folder: Path) -> str | None:
    """Return what a run folder says that it is for; None for emotion models, or no run at all."""
    path = folder / CONFIG
    task = read_json(path).get("task") if path.is_file() else None
    return None if task is None else str(task)


def refuse_foreign(folder: Path) -> None:
    """Refuse to plan a run where other things lie.

    Raises:
        RunError: They do.
    """
    if (folder / CONFIG).is_file() or not folder.is_dir():
        return
    foreign = [path for path in folder.iterdir() if path.name not in (LOCK, "folds.json")]
    lock = folder / LOCK
    if foreign or (lock.exists() and (not lock.is_file() or lock.stat().st_size)):
        raise RunError(f"Expected an empty folder or a run of fer-train, received {folder}")


def read_teacher(run: Run) -> dict[str, Any]:
    """Return what the folder of a student's run says of its teacher.

    Raises:
        RunError: It says nothing, or is damaged.
    """
    return dict(json.loads(read_arrays(run.folder / TEACHER)["facts"].tobytes()))
