import errno
import json
import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_edge.errors import RunError
from fer_train.data.folds import Fold
from fer_train.run.folder import (
    Run,
    locked,
    locked_run,
    open_run,
    read_arrays,
    write_arrays,
    write_atomic,
    write_text,
)
from fer_train.run.recipes import Protocol, recipe_for


def _run(folder: Path, **protocol: object) -> Run:
    halves = np.arange(3), np.arange(3, 6)
    none = np.empty(0, np.int64)
    folds = [Fold(0, halves[0], none, halves[1]), Fold(1, halves[1], none, halves[0])]
    recipes = {"sequential": recipe_for("modern", "sequential", {"epochs": 2})}
    return Run(folder, Protocol("synthetic", **protocol), "digest", recipes, folds)  # type: ignore[arg-type]


def test_a_run_is_read_back_as_it_was_saved(tmp_path):
    run = _run(tmp_path, drop=("disgust",), limit=6)
    run.save()
    again = open_run(tmp_path)
    assert again.protocol == run.protocol
    assert again.recipes == run.recipes
    for fold, same in zip(run.folds, again.folds, strict=True):
        assert np.array_equal(fold.train, same.train)


def test_other_settings_are_refused_by_name(tmp_path):
    run = _run(tmp_path)
    with pytest.raises(RunError, match=r"seed 0 there, 5 asked for.*choose another --run"):
        run.check_same(_run(tmp_path, seed=5))
    run.check_same(_run(tmp_path))


@pytest.mark.parametrize("content", [None, "{", '{"format": 99}', '{"format": 1}'])
def test_a_folder_that_is_no_run_is_refused(tmp_path, content):
    if content:
        (tmp_path / "config.json").write_text(content)
        (tmp_path / "folds.json").write_text("[]")
    with pytest.raises(RunError, match="Expected"):
        open_run(tmp_path)


def test_a_damaged_array_file_is_noticed(tmp_path):
    path = tmp_path / "arrays.npz"
    write_arrays(path, {"a": np.arange(1000)})
    assert np.array_equal(read_arrays(path)["a"], np.arange(1000))
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="damaged"):
        read_arrays(path)
    path.write_bytes(content[:200])
    with pytest.raises(RunError, match="damaged"):
        read_arrays(path)


def test_a_full_disk_leaves_the_old_file_and_no_half_one(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fill(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(RunError, match=r"No space left on device; free some space"):
        write_atomic(path, fill)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("make", [lambda path: write_text(path, "new"), lambda path: _enter(path)])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, make):
    (tmp_path / "run").write_text("a file is in the way")
    with pytest.raises(RunError, match=r"Could not write .*config\.json"):
        make(tmp_path / "run" / "config.json")


def _enter(path: Path) -> None:
    with locked(path):
        pass


def _hold(path: Path, ready: object, leave: object) -> None:
    with locked(path):
        ready.set()  # type: ignore[attr-defined]
        leave.wait(30)  # type: ignore[attr-defined]


def test_a_second_process_is_refused_and_a_dead_ones_lock_is_free(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "lock", ready, leave))
    holder.start()
    assert ready.wait(30)
    with (
        pytest.raises(RunError, match=r"Another process.*choose another --run"),
        locked(tmp_path / "lock"),
    ):
        pass
    holder.kill()
    holder.join()
    with locked(tmp_path / "lock"):
        pass


def test_a_plan_that_fails_leaves_no_folder_behind(tmp_path):
    folder = tmp_path / "runs" / "new"
    with pytest.raises(RunError, match="no data"), locked_run(folder):
        raise RunError("no data")
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_was_there_stays(tmp_path):
    with pytest.raises(RunError, match="no data"), locked_run(tmp_path):
        raise RunError("no data")
    assert tmp_path.is_dir()


@pytest.mark.parametrize("name", ["lock", "photo.jpg"])
def test_a_folder_of_other_things_is_refused_untouched(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(RunError, match="Expected an empty folder"), locked_run(tmp_path):
        pass
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "precious"}


def test_data_that_have_moved_are_the_same_data(tmp_path):
    run = _run(tmp_path)
    run.check_same(replace(run, protocol=replace(run.protocol, data="/elsewhere/fer2013.zip")))
    with pytest.raises(RunError, match=r"images or labels of synthetic are others"):
        run.check_same(replace(run, dataset_digest="another"))


def test_locks_need_no_fcntl(tmp_path):
    """As on Windows, where there is none."""
    program = (
        "import sys, warnings; sys.modules['fcntl'] = None; warnings.simplefilter('ignore');"
        "from pathlib import Path; from fer_train.run.folder import locked;"
        "from fer_edge.errors import RunError\n"
        "path = Path(sys.argv[1])\n"
        "with locked(path):\n"
        "    try:\n"
        "        with locked(path): print('held twice')\n"
        "    except RunError: print('held')\n"
        "with locked(path): print('free')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "lock")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["held", "free"]


def test_an_older_run_goes_on_without_the_settings_that_it_does_not_know(tmp_path):
    run = _run(tmp_path)
    plain = {"weights": "none", "normalization": "none"}
    run = replace(run, recipes={"vgg16": recipe_for("modern", "vgg16", plain)})
    run.save()
    config = json.loads((tmp_path / "config.json").read_text())
    for setting in ("normalization", "votes_share"):
        del config["models"]["vgg16"][setting]
    for key in ("teacher", "votes_digest"):
        del config[key]
    del config["protocol"]["votes"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    older = open_run(tmp_path)
    assert older.recipes["vgg16"].normalization == "none"
    asked = replace(run, recipes={"vgg16": recipe_for("modern", "vgg16", {"weights": "none"})})
    assert asked.recipes["vgg16"].normalization == "batch"
    older.check_same(asked)
    older.save()
    saved = json.loads((tmp_path / "config.json").read_text())["models"]["vgg16"]
    assert "normalization" not in saved
    other = replace(asked.recipes["vgg16"], batch_size=7)
    with pytest.raises(RunError, match="vgg16 batch_size 64 there, 7 asked for"):
        older.check_same(replace(asked, recipes={"vgg16": other}))


@pytest.mark.parametrize(
    ("left", "teacher"),
    [(None, None), ("teacher.npz", "folds"), ("teacher.keras", "files"), ("teachers/a", "files")],
)
def test_an_older_run_says_by_its_files_who_teaches(tmp_path, left, teacher):
    _run(tmp_path).save()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("teacher") is None
    (tmp_path / "config.json").write_text(json.dumps(config))
    if left:
        (tmp_path / left).parent.mkdir(exist_ok=True)
        (tmp_path / left).touch()
    assert open_run(tmp_path).teacher == teacher
