"""A run folder's copy in object storage, for machines that share no disk.

Its layout is that of the run folder, see `fer_train.run.folder`, without the locks: these do not
reach there, so that whoever starts the folds sees to it that one process at a time trains each. An
object store shows a file once it is whole, and a fold's metrics.json goes last, as on disk.
"""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from fer_edge.errors import DependencyError, RunError
from fer_train.run.folder import (
    DONE,
    GROUPS,
    VOTES,
    Run,
    RunFold,
    code_places,
    open_run,
    refuse_foreign,
    write_atomic,
)

_PLAN = ("folds.json", "config.json")
_CHANGING = ("history.csv", "record.json", "events.out.tfevents.*")
"""The files of a fold that change under their name; the others never do."""

STORE_VARIABLE = "FER_TRAIN_STORE"
"""The environment variable that says the address of the store too."""


def holds_keys(address: str) -> bool:
    """Tell whether a store's address holds a password, or what looks like one in its options."""
    parts = urlsplit(address)
    names = "".join(name.lower() for name, _ in parse_qsl(parts.query))
    return bool(parts.password) or any(word in names for word in ("key", "secret", "token"))


class Store:
    """Object storage that pyarrow reaches, such as Amazon S3 and Google Cloud Storage.

    Every method raises `RunError` if the store cannot be reached.

    Args:
        address: Of the run's folder there, such as ``s3://bucket/runs/first``; keys and regions
            are found as that service's own tools find them. Options of pyarrow's
            ``FileSystem.from_uri`` may follow: ``?endpoint_override=localhost:9000&scheme=http``.

    Raises:
        DependencyError: pyarrow is not installed.
        RunError: The address is of no kind that pyarrow knows.
    """

    def __init__(self, address: str) -> None:
        """Parse the address; nothing is asked of the store yet."""
        try:
            from pyarrow import fs
        except ImportError as error:
            raise DependencyError(
                "pyarrow is not installed; run: pip install 'fer-edge[cluster]'"
            ) from error
        # For messages: the address may hold keys.
        scheme, _, place = address.partition("?")[0].rpartition("://")
        self._name = f"{scheme}://{place.rpartition('@')[2]}"
        wrong = RunError(
            "Expected the address of a folder in object storage, such as s3://bucket/run or "
            f"gs://bucket/run, received {self._name}"
        )
        try:
            self._files, self._root = fs.FileSystem.from_uri(address)
        except (OSError, ValueError):
            # Their texts repeat the address.
            raise wrong from None
        if not self._root:
            raise wrong
        self._selector = fs.FileSelector

    def fetch_plan(self, folder: Path) -> None:
        """Bring the plan of the run to a folder; check one that is there to be of the same run.

        Raises:
            RunError: The folder holds a run of other settings.
        """
        with tempfile.TemporaryDirectory() as temporary:
            there = Path(temporary)
            self._fetch(there, "", {VOTES, GROUPS, *_PLAN} & self._names(""))
            if not (there / "config.json").is_file():
                return
            for place in code_places(there):
                part, _, name = place.rpartition("/")
                self._fetch(there / part, part, [name])
            run = open_run(there)
            votes, groups = run.votes, run.groups
            run = replace(run, folder=folder)
        refuse_foreign(folder)
        if (folder / "config.json").is_file():
            here = open_run(folder)
            here.check_same(run)
            run = replace(run, recipes={**run.recipes, **here.recipes})
        if votes is not None:
            run.keep_votes(votes)
        if groups is not None:
            run.keep_groups(groups)
        run.save()

    def send_plan(self, run: Run) -> None:
        """Send the plan of a run."""
        kept = {VOTES: run.votes_digest, GROUPS: run.groups_digest}
        names = [name for name, digest in kept.items() if digest is not None]
        for place in run.code_files:
            part, _, name = place.rpartition("/")
            self._send(run.folder / part, part, [name])
        self._send(run.folder, "", (*names, *_PLAN))

    def exchange_done(self, run: Run) -> None:
        """Bring the folds that are done only there, and send those that are done only here."""
        for model in run.recipes:
            for fold in run.folds_of(model):
                here, there = fold.is_done, DONE in self._names(fold.part)
                if there and not here:
                    self.fetch_fold(fold)
                elif here and not there:
                    self.send_fold(fold)

    def fetch_fold(self, fold: RunFold) -> None:
        """Bring what a fold's folder lacks, such as the checkpoints of another machine."""
        folder = fold.folder
        names = self._names(fold.part)
        lacking = {name for name in names if not (folder / name).exists()}
        if DONE in lacking:
            # All of it is the other machine's then, and what was begun here is of no use.
            lacking = names
        self._fetch(folder, fold.part, lacking)
        if DONE in lacking:
            for path in folder.glob("checkpoint-*"):
                path.unlink()

    def send_fold(self, fold: RunFold) -> None:
        """Send what the store lacks of a fold, and delete there what is no longer here."""
        folder = fold.folder
        here = {path.name for path in folder.iterdir() if path.name[0] != "."} - {"lock"}
        there = self._names(fold.part)
        unchanged = {
            name for name in there if not any(fnmatch(name, pattern) for pattern in _CHANGING)
        }
        self._send(folder, fold.part, here - unchanged)
        with self._reached():
            for name in there - here:
                self._files.delete_file(self._path(fold.part, name))

    def _names(self, part: str) -> set[str]:
        with self._reached():
            found = self._files.get_file_info(
                self._selector(self._path(part), allow_not_found=True)
            )
        return {info.base_name for info in found if info.is_file}

    def _fetch(self, folder: Path, part: str, names: Iterable[str]) -> None:
        for name in sorted(names, key=DONE.__eq__):
            with self._reached(), self._files.open_input_stream(self._path(part, name)) as file:
                content = file.readall()
            write_atomic(folder / name, partial(Path.write_bytes, data=content))

    def _send(self, folder: Path, part: str, names: Iterable[str]) -> None:
        with self._reached():
            self._files.create_dir(self._path(part))
            for name in sorted(names, key=DONE.__eq__):
                content = (folder / name).read_bytes()
                with self._files.open_output_stream(self._path(part, name)) as file:
                    file.write(content)

    def _path(self, *parts: str) -> str:
        return "/".join([self._root.rstrip("/"), *filter(None, parts)])

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"Could not reach {self._name}: {error}; nothing that is here is lost"
            ) from error
