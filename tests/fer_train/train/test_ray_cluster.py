"""Folds on Ray, with nodes that die: real raylets on this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fer_train.cli import main
from fer_train.run.folder import FoldId, open_run
from fer_train.run.plan import load_run_images
from fer_train.train.ray_cluster import _identity, _train_on_node

pytestmark = pytest.mark.tensorflow
needs_ray = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

FLAGS = ("--data", "synthetic:280", "--models", "svm", "--folds", "4", "--no-export")


def _scores(folder: Path) -> list[tuple[float, float]]:
    return [(score["accuracy"], score["log_loss"]) for score in open_run(folder).scores("svm")]


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[tuple[float, float]]:
    folder = tmp_path_factory.mktemp("here") / "run"
    result = CliRunner().invoke(main, ["all", *FLAGS, "--run", str(folder)])
    assert result.exit_code == 0, result.output
    return _scores(folder)


def _start(folder: Path, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fer_train.cli", "all", *FLAGS, "--run", str(folder)]
    return subprocess.Popen(
        [*command, "--ray", address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _training_workers(raylet: int) -> Iterator[int]:
    for child in Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split():
        if b"ray::_train_on_node" in Path(f"/proc/{child}/cmdline").read_bytes():
            yield int(child)


@needs_ray
@pytest.mark.timeout(900)
def test_a_run_ends_complete_when_a_node_is_killed_in_the_middle(tmp_path, expected, monkeypatch):
    pytest.importorskip("ray")
    # Ray's workers step back behind all else on a machine; here that is only slow.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    node_args = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node_args)
    try:
        node = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        raylet = node.all_processes["raylet"][0].process.pid
        process = _start(tmp_path / "run", cluster.address)
        while not (workers := list(_training_workers(raylet))):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        for pid in (raylet, *workers):
            os.kill(pid, signal.SIGKILL)
        output, messages = process.communicate(timeout=200)
    finally:
        cluster.shutdown()
    assert process.returncode == 0, messages
    assert output.startswith("svm "), "standard output is for the scores"
    assert "mean +- sd" in output
    for fold in range(4):
        assert f"svm fold {fold} is done" in messages
    assert _scores(tmp_path / "run") == expected


def test_a_node_without_the_run_folder_sends_the_files(tmp_path, expected):
    folder = tmp_path / "run"
    assert CliRunner().invoke(main, ["plan", *FLAGS[:-1], "--run", str(folder)]).exit_code == 0
    run = open_run(folder)
    dataset = load_run_images(run)
    files = _train_on_node((run, None, dataset, ["fer-train", "all"]), FoldId("svm", 0), None)
    assert set(files) == {"predictions.npz", "metrics.json", "record.json"}
    assert not run.fold("svm", 0).is_done
    for name, content in files.items():
        run.fold("svm", 0).write_file(name, content)
    assert (run.fold("svm", 0).score["accuracy"], run.fold("svm", 0).score["log_loss"]) == expected[
        0
    ]
    assert (
        _train_on_node((run, _identity(run), dataset, ["fer-train", "all"]), FoldId("svm", 1), None)
        == {}
    )
    assert run.fold("svm", 1).is_done
    # The command that a person gave, not that of Ray's worker.
    assert [each["command"] for each in run.fold("svm", 0).record] == ["fer-train all"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_cluster_that_does_not_answer_is_one_line(tmp_path, address):
    pytest.importorskip("ray")
    result = CliRunner().invoke(
        main, ["all", *FLAGS, "--run", str(tmp_path / "run"), "--ray", address]
    )
    assert result.exit_code == 1
    assert f"Expected a Ray cluster at {address}" in result.stderr
    assert "Traceback" not in result.output


def test_a_missing_ray_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(
        main, ["all", *FLAGS, "--run", str(tmp_path / "run"), "--ray", "local"]
    )
    assert result.exit_code == 1
    assert "pip install 'fer-edge[cluster]'" in result.stderr
