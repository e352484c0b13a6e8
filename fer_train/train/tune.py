"""Settings of a model, searched: Optuna proposes them, images that steer training evaluate them.

    RUN/
    ├── study.log      Optuna's journal of all trials: the search goes on from it
    ├── trials.csv     one row a trial
    ├── best.toml      the best settings so far, for --config
    ├── NAME.py        the code of a model of one's own, which best.toml names
    └── trial-007/     a run folder for each trial, without its model

No trial sees the images that a fold holds out: a trial is a fold whose test set is its inner split.
"""

import csv
import dataclasses
import io
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_edge.errors import DataError, DependencyError, DivergedError, RunError
from fer_train.data.folds import Fold
from fer_train.data.load import Dataset
from fer_train.run.folder import LOCK, Run, RunFold, digest_of, locked, write_bytes, write_text
from fer_train.run.metrics import selection_score
from fer_train.run.plan import split
from fer_train.run.recipes import Protocol, Recipe, model_toml, settings_of

if TYPE_CHECKING:
    from optuna import Study, Trial

JOURNAL = "study.log"
BEST = "best.toml"
TRIALS = "trials.csv"
_FIXED = ("name", "weights", "precision", "teacher_weight", "views", "model_file")
"""Settings that are given, not searched."""
_clock = time.monotonic
_FIRST_DRAWN = 5
"""Trials that are drawn by chance before Optuna reasons, and before trials are cut short."""


@dataclass(frozen=True)
class Range:
    """What a setting may be.

    Attributes:
        name: Of the setting, a field of `Recipe`.
        choices: The values, or none where all from ``low`` to ``high`` are allowed.
        low: The lowest.
        high: The highest; ten times the lowest or more, the scale is logarithmic.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0

    def suggest(self, trial: "Trial") -> Any:
        """Return the value that Optuna proposes."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        log = self.low > 0 and self.high >= 10 * self.low
        if _kind(self.name) is int:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=log)
        return trial.suggest_float(self.name, self.low, self.high, log=log)

    @property
    def edges(self) -> tuple[Any, ...]:
        """The values that are tried whether the model takes them."""
        kind: Any = _kind(self.name)
        return self.choices or (kind(self.low), kind(self.high))


def default_ranges(recipe: Recipe) -> list[Range]:
    """Return what is searched where nothing is said: around a recipe's own values."""
    rate = recipe.learning_rate
    return [
        Range("learning_rate", low=rate / 10, high=min(rate * 10, 1.0)),
        Range("weight_decay", low=1e-4, high=0.1),
        Range("label_smoothing", low=0.0, high=0.2),
        Range("augmentation", low=0.3, high=1.7),
        Range("erasing", low=0.0, high=0.5),
        Range("mixup", low=0.0, high=0.4),
        Range("batch_size", choices=(32, 64, 128)),
    ]


def parse_range(text: str, model: str) -> Range:
    """Read a range as ``learning_rate=1e-4:1e-2`` or ``batch_size=32,64``.

    Raises:
        DataError: It is not one, or of no setting that the model's training has.
    """
    name, _, values = text.partition("=")
    name = name.strip().replace("-", "_")
    known = [setting for setting in settings_of(model) if setting not in _FIXED]
    if name not in known:
        raise DataError(f"Expected a range of {', '.join(known)}, received {text!r}")
    kind = _kind(name)
    wrong = DataError(f"Expected {name}=LOW:HIGH, or values with commas between, received {text!r}")
    try:
        low, colon, high = values.partition(":")
        if colon and kind in (int, float):
            found = Range(name, low=kind(low), high=kind(high))
        else:
            found = Range(name, tuple(kind(value.strip()) for value in values.split(",")))
    except ValueError as error:
        raise wrong from error
    if not found.choices and not found.low < found.high:
        raise wrong
    return found


def _kind(name: str) -> Callable[[Any], Any]:
    return type(getattr(Recipe(), name))


class Search:
    """A search for the settings of one model, in a folder.

    Args:
        folder: Where it is kept; one that is there goes on.
        protocol: The data and how it is split; the first fold's inner split evaluates.
        model: Name of the model.
        recipe: Settings that are not searched.
        ranges: What is searched.

    Raises:
        DependencyError: Optuna is not installed.
        DataError: A range holds what the model does not take.
    """

    def __init__(
        self,
        folder: Path,
        protocol: Protocol,
        model: str,
        recipe: Recipe,
        ranges: Sequence[Range],
    ) -> None:
        """Check the ranges; nothing is read or written yet."""
        try:
            import optuna
        except ImportError as error:
            raise DependencyError(
                "Optuna is not installed; run: pip install 'fer-edge[tune]'"
            ) from error
        if not protocol.inner:
            raise DataError(
                "Expected an inner share above 0, whose images evaluate the trials, received 0: "
                "the test set must not; give --inner 0.1"
            )
        for each in ranges:
            for value in each.edges:
                dataclasses.replace(recipe, **{each.name: value})
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self.folder, self.protocol, self.model = folder, protocol, model
        self.recipe, self.ranges = recipe, ranges

    def run(
        self,
        dataset: Dataset,
        trials: int,
        hours: float | None,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Try settings until so many trials are done or the time is over.

        A trial that the time or a kill has ended goes on from its last epoch when the search does.

        Args:
            dataset: What `load_images` made of the protocol.
            trials: Trials in all, those of earlier commands included.
            hours: Of this command, or None.
            report: Told of each trial.

        Raises:
            RunError: Another process searches here, or the folder holds another search.
            DataError: The data set does not suffice for the folds.
        """
        end = None if hours is None else _clock() + hours * 3600
        with locked(self.folder / LOCK):
            study = self._open(dataset)
            fold = split(self.protocol, dataset)[0]
            # The images that the fold holds out are not there at all.
            inner = Fold(0, fold.train, fold.inner, fold.inner)
            self._take_up_again(study)
            while self._done(study) < trials and (end is None or _clock() < end):
                trial = study.ask()
                if "folder" not in trial.user_attrs:
                    trial.set_user_attr("folder", f"trial-{trial.number:03d}")
                number = self._done(study) + 1
                try:
                    value = self._try(trial, dataset, inner, end)
                except _OutOfTime:
                    report(f"trial {number} of {trials}: out of time; it goes on next time")
                    break
                except (self._optuna.TrialPruned, DivergedError) as error:
                    study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
                    shutil.rmtree(self.folder / trial.user_attrs["folder"])
                    why = error if isinstance(error, DivergedError) else "worse than most"
                    report(f"trial {number} of {trials}: ended early: {why}")
                else:
                    study.tell(trial, value)
                    report(f"trial {number} of {trials}: {value:.4f}, best {study.best_value:.4f}")
                self._write(study)

    def _open(self, dataset: Dataset) -> "Study":
        optuna = self._optuna
        asked = {
            "dataset": dataset.digest,
            "model": self.model,
            "votes": None if dataset.votes is None else digest_of(dataset.votes),
            "groups": None if dataset.groups is None else digest_of(dataset.groups),
            # Digests tell whether data, votes and groups are the same, wherever they lie now.
            "protocol": dataclasses.asdict(
                dataclasses.replace(self.protocol, data="", votes=None, groups=None)
            ),
            "recipe": self.recipe.plain(),
            "ranges": [dataclasses.asdict(each) for each in self.ranges],
        }
        path = self.folder / JOURNAL
        if not path.is_file() and any(each.name != LOCK for each in self.folder.iterdir()):
            raise RunError(f"Expected an empty folder or a search of fer-train, received {path}")
        study = optuna.create_study(
            storage=optuna.storages.JournalStorage(
                optuna.storages.journal.JournalFileBackend(str(path))
            ),
            study_name="fer-train",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(_FIRST_DRAWN, self.recipe.epochs // 3),
        )
        there = study.user_attrs.get("settings")
        # As JSON, in which tuples are lists.
        asked = json.loads(json.dumps(asked))
        if there is None:
            study.set_user_attr("settings", asked)
            there = asked
        # An earlier version did not know all settings: it trained by what are now their defaults.
        for key, kind in (("protocol", Protocol), ("recipe", Recipe)):
            usual = {field.name: field.default for field in dataclasses.fields(kind)}
            new = {name: usual[name] for name in asked[key] if name not in there[key]}
            there[key] = json.loads(json.dumps(new)) | there[key]
        if differing := sorted(key for key in asked if there.get(key) != asked[key]):
            raise RunError(
                f"{self.folder} holds a search with another {', '.join(differing)}; give the same "
                "flags or choose another --run"
            )
        # The draws of a search that goes on are not those that it began with.
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=_FIRST_DRAWN, seed=(self.protocol.seed + len(study.trials)) % 2**32
        )
        return study

    def _take_up_again(self, study: "Study") -> None:
        """Queue the trials that had not ended when the search did."""
        state = self._optuna.trial.TrialState
        for trial in study.get_trials(states=(state.RUNNING,)):
            study.tell(trial.number, state=state.FAIL)
            if trial.params and "folder" in trial.user_attrs:
                study.enqueue_trial(trial.params, user_attrs={"folder": trial.user_attrs["folder"]})

    def _done(self, study: "Study") -> int:
        state = self._optuna.trial.TrialState
        return len(study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED)))

    def _try(self, trial: "Trial", dataset: Dataset, split: Fold, end: float | None) -> float:
        """Train with the settings of a trial; return its score on the inner images.

        Raises:
            TrialPruned: It is worse than most at this epoch.
            DivergedError: Its loss is no number any more.
            _OutOfTime: The time is over.
        """
        from fer_train.train.fold import FoldTrainer, Progress

        recipe = dataclasses.replace(
            self.recipe, **{each.name: each.suggest(trial) for each in self.ranges}
        )
        folder = self.folder / trial.user_attrs["folder"]
        run = Run(folder, self.protocol, dataset.digest, {self.model: recipe}, [split])
        if not (folder / "config.json").is_file():
            run.save()
        fold = run.fold(self.model, 0)

        def watch(progress: Progress) -> None:
            if progress.row is None:
                return
            trial.report(progress.row[selection_score(progress.row)], progress.epoch)
            if trial.should_prune():
                raise self._optuna.TrialPruned
            if end is not None and _clock() >= end and progress.epoch < recipe.epochs:
                raise _OutOfTime

        FoldTrainer(fold, dataset).train(watch)
        fold.keras_file.unlink(missing_ok=True)
        return _kept_score(fold)

    def _write(self, study: "Study") -> None:
        """Write the table of trials, and the best settings where there are any."""
        state = self._optuna.trial.TrialState
        done = study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = [each.name for each in self.ranges]
        writer.writerow(["trial", "state", "score", "seconds", *names])
        for trial in done:
            seconds = trial.duration.total_seconds() if trial.duration else ""
            score = "" if trial.value is None else trial.value
            values = [trial.params.get(name, "") for name in names]
            writer.writerow([trial.number, trial.state.name.lower(), score, seconds, *values])
        write_text(self.folder / TRIALS, text.getvalue())
        if not any(trial.state == state.COMPLETE for trial in done):
            return
        best = study.best_trial
        if self.recipe.code:
            # Beside the settings that name it.
            file = self.recipe.model_file.partition(":")[0]
            write_bytes(self.folder / file, self.recipe.code.encode())
        write_text(
            self.folder / BEST,
            f"# The best of {len(done)} trials of fer-train tune: {best.value:.4f} on the inner "
            "images of the first fold.\n"
            + model_toml(self.model, dataclasses.replace(self.recipe, **best.params)),
        )

    @property
    def best_file(self) -> Path:
        """Where the best settings are, once a trial is complete."""
        return self.folder / BEST


class _OutOfTime(Exception):
    """The time of a search is over in the middle of a trial."""


def _kept_score(fold: RunFold) -> float:
    """Return the score, on the images that steered it, of the epoch that a fold has kept."""
    column = fold.curves[selection_score(fold.curves)]
    return float(column[fold.score["kept_epoch"] - 1])
