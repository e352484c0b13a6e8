"""The copy of a run folder in object storage; a folder stands for the store."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from fer_edge.errors import RunError
from fer_train.run.folder import FoldId, open_run
from fer_train.run.plan import load_run_images
from fer_train.run.store import Store
from fer_train.train.ray_cluster import _train_on_node
from tests.support.trainer import invoke

pytestmark = pytest.mark.tensorflow

SVM = ("--data", "synthetic:140", "--models", "svm", "--folds", "2")
EDGE = ("--data", "synthetic:140", "--models", "edge", "--folds", "2", "--precision", "float32")


@pytest.fixture
def store(tmp_path: Path) -> str:
    pytest.importorskip("pyarrow")
    return (tmp_path / "bucket" / "run").as_uri()


def _there(tmp_path: Path) -> Path:
    return tmp_path / "bucket" / "run"


def test_folds_of_machines_that_share_no_disk_come_together(tmp_path, store):
    planned = invoke("plan", *SVM, "--run", tmp_path / "a", "--store", store)
    assert planned.exit_code == 0, planned.output
    for fold, machine in enumerate(("b", "c")):
        result = invoke(
            *("fold", "--model", "svm", "--fold", fold),
            *("--run", tmp_path / machine, "--store", store),
        )
        assert result.exit_code == 0, result.output
    together = ("all", *SVM, "--no-export", "--run", tmp_path / "a", "--store", store)
    result = invoke(*together)
    assert result.exit_code == 0, result.output
    assert "2 of 2 folds are done" in result.stderr
    alone = invoke("all", *SVM, "--no-export", "--run", tmp_path / "d")
    scores = [open_run(tmp_path / name).scores("svm") for name in ("a", "d")]
    assert [score["log_loss"] for score in scores[0]] == [score["log_loss"] for score in scores[1]]
    assert alone.exit_code == 0
    # A fold that was trained without the store is brought to it.
    shutil.rmtree(_there(tmp_path) / "svm" / "fold-01")
    assert invoke(*together).exit_code == 0
    assert (_there(tmp_path) / "svm" / "fold-01" / "metrics.json").is_file()


def test_another_machine_goes_on_from_the_last_epoch(tmp_path, store, monkeypatch):
    plan = (*EDGE, "--epochs", "3")
    assert invoke("plan", *plan, "--run", tmp_path / "a", "--store", store).exit_code == 0
    fold = ("fold", "--model", "edge", "--fold", 0, "--store", store, "--run")

    class Lost(BaseException):
        """The machine, after its second epoch."""

    send = Store.send_fold

    def send_twice(self, fold):
        send(self, fold)
        if (fold.folder / "checkpoint-002.npz").is_file():
            raise Lost

    with monkeypatch.context() as patched:
        patched.setattr(Store, "send_fold", send_twice)
        with pytest.raises(Lost):
            invoke(*fold, tmp_path / "b")
    there = _there(tmp_path) / "edge" / "fold-00"
    assert {path.name for path in there.iterdir()} >= {"checkpoint-002.npz", "history.csv"}
    result = invoke(*fold, tmp_path / "c")
    assert result.exit_code == 0, result.output
    assert re.findall(r"epoch (\d)/3", result.stderr) == ["3"]
    assert not [*there.glob("checkpoint-*"), *there.glob("best-*"), *there.glob("lock")]
    assert (there / "model.keras").is_file()
    assert len((there / "history.csv").read_text().splitlines()) == 4


def test_a_fold_that_another_machine_finished_is_taken_whole(tmp_path, store):
    plan = (*EDGE, "--epochs", "2", "--store", store, "--run")
    assert invoke("plan", *plan, tmp_path / "a").exit_code == 0
    here = tmp_path / "a" / "edge" / "fold-00"
    here.mkdir(parents=True)
    # What a machine that died after its first epoch has left.
    (here / "history.csv").write_text("epoch,val_accuracy\n1,0.1\n")
    (here / "checkpoint-001.npz").write_bytes(b"of the first epoch")
    fold = ("fold", "--model", "edge", "--fold", 0, "--store", store, "--run", tmp_path / "b")
    assert invoke(*fold).exit_code == 0
    assert invoke("plan", *plan, tmp_path / "a").exit_code == 0
    assert len((here / "history.csv").read_text().splitlines()) == 3
    assert not list(here.glob("checkpoint-*"))


def test_a_ray_node_without_the_run_folder_leaves_its_fold_in_the_store(tmp_path, store):
    assert invoke("plan", *SVM, "--run", tmp_path / "a", "--store", store).exit_code == 0
    run = replace(open_run(tmp_path / "a"), store=store)
    files = _train_on_node((run, None, load_run_images(run), ["fer-train"]), FoldId("svm", 1), None)
    assert not run.fold("svm", 1).is_done
    for name, content in files.items():
        assert (_there(tmp_path) / "svm" / "fold-01" / name).read_bytes() == content


def test_a_store_that_is_away_for_an_epoch_costs_nothing(tmp_path, store, monkeypatch):
    planned = invoke("plan", *EDGE, "--epochs", "2", "--run", tmp_path / "a", "--store", store)
    assert planned.exit_code == 0
    calls = []
    send = Store._send

    def fail_once(self, *arguments):
        calls.append(arguments)
        if len(calls) == 1:
            with self._reached():
                raise OSError("no route to host")
        send(self, *arguments)

    monkeypatch.setattr(Store, "_send", fail_once)
    fold = ("fold", "--model", "edge", "--fold", 0, "--run", tmp_path / "b", "--store", store)
    result = invoke(*fold)
    assert result.exit_code == 0, result.output
    assert open_run(_there(tmp_path)).fold("edge", 0).is_done


def test_a_store_of_another_run_is_refused(tmp_path, store):
    assert invoke("plan", *SVM, "--run", tmp_path / "a", "--store", store).exit_code == 0
    before = (_there(tmp_path) / "config.json").read_text()
    for flags in (("--seed", "5"), ()):
        result = invoke("plan", *SVM, *flags, "--run", tmp_path / "b")
        assert result.exit_code == 0
        again = invoke("plan", *SVM, "--seed", "5", "--run", tmp_path / "b", "--store", store)
        assert again.exit_code == 1
        assert "seed" in again.stderr
        shutil.rmtree(tmp_path / "b")
    assert (_there(tmp_path) / "config.json").read_text() == before


def test_models_of_both_sides_stay(tmp_path, store):
    for models, folder in (("svm", "a"), ("edge", "b")):
        result = invoke(
            *("plan", *SVM[:2], "--models", models, "--folds", "2"),
            *("--run", tmp_path / folder, "--store", store),
        )
        assert result.exit_code == 0, result.output
    assert set(json.loads((_there(tmp_path) / "config.json").read_text())["models"]) == {
        "svm",
        "edge",
    }


@pytest.mark.parametrize("address", ["nonsense", "ftp://host/run", "s3://"])
def test_an_address_of_no_store_is_one_line(tmp_path, address):
    pytest.importorskip("pyarrow")
    result = invoke("plan", *SVM, "--run", tmp_path / "run", "--store", address)
    assert result.exit_code == 1
    assert "Expected the address of a folder in object storage" in result.stderr
    assert not (tmp_path / "run").exists()


def test_messages_do_not_show_keys():
    pytest.importorskip("pyarrow")
    with pytest.raises(RunError) as caught:
        Store("ftp://name:secret@host/run?password=secret")
    assert "ftp://host/run" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = invoke("plan", *SVM, "--run", tmp_path / "run", "--store", "s3://bucket/run")
    assert result.exit_code == 1
    assert "pip install 'fer-edge[cluster]'" in result.stderr


def test_job_files_pass_the_store_on(tmp_path, store):
    result = invoke(
        *("all", *SVM, "--run", tmp_path / "run", "--store", store, "--emit", "kubernetes")
    )
    assert result.exit_code == 0, result.output
    pod = json.loads(result.stdout)["spec"]["template"]["spec"]
    assert f"--store {store}" in pod["containers"][0]["command"][2]
    assert "volumes" not in pod


@pytest.mark.parametrize("system", ["slurm", "kubernetes"])
@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("s3://bucket/run?region=eu-north-1", ""),
        ("s3://name:hidden@bucket/run", "hidden"),
        ("abfs://box@account/run?account_key=hidden", "hidden"),
    ],
)
def test_keys_of_a_store_do_not_get_into_a_job_file(tmp_path, monkeypatch, address, secret, system):
    monkeypatch.setattr("fer_train.run.store.Store", MagicMock())
    result = invoke(*("all", *SVM, "--run", tmp_path / "run", "--store", address, "--emit", system))
    assert result.exit_code == 0, result.output
    if not secret:
        assert f"--store '{address}'" in result.stdout.replace("'\"'\"'", "'")
        assert "holds keys" not in result.stderr
        return
    assert secret not in result.output
    assert "--store" not in result.stdout
    if system == "slurm":
        assert "put it into the environment of sbatch, as FER_TRAIN_STORE" in result.stderr
        return
    pod = json.loads(result.stdout)["spec"]["template"]["spec"]
    # The run folder is in the store all the same, and no volume is asked for.
    assert "volumes" not in pod
    key = {"name": "fer-train-store", "key": "address"}
    expected = {"name": "FER_TRAIN_STORE", "valueFrom": {"secretKeyRef": key}}
    assert pod["containers"][0]["env"] == [expected]
    assert "kubectl create secret generic fer-train-store" in result.stderr


def test_the_environment_may_say_where_the_store_is(tmp_path, store, monkeypatch):
    monkeypatch.setenv("FER_TRAIN_STORE", store)
    assert invoke("plan", *SVM, "--run", tmp_path / "one").exit_code == 0
    arguments = ("--model", "svm", "--fold", "0", "--run", tmp_path / "two")
    result = invoke("fold", *arguments)
    assert result.exit_code == 0, result.output
    assert "svm fold 0: top-1" in result.stdout


def test_the_code_of_ones_own_model_goes_along(tmp_path, store):
    code = (
        "import keras\n\n\ndef build(input_shape, classes):\n    return keras.Sequential([\n"
        "        keras.Input(input_shape), keras.layers.GlobalAveragePooling2D(),\n"
        "        keras.layers.Dense(classes, activation='softmax')])\n"
    )
    (tmp_path / "net.py").write_text(code)
    planned = invoke(
        *("plan", "--data", "synthetic:70", "--model-file", f"{tmp_path / 'net.py'}:build"),
        *("--folds", 2, "--run", tmp_path / "a", "--store", store),
    )
    assert planned.exit_code == 0, planned.output
    assert (_there(tmp_path) / "net/net.py").read_text() == code
    Store(store).fetch_plan(tmp_path / "b")
    assert open_run(tmp_path / "b").recipes["net"].code == code
