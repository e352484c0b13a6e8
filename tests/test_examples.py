"""Each example runs as its head says."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx import helper

from tests.support.clips import portrait_frames, write_clip
from tests.support.models import save

ROOT = Path(__file__).parents[1]
PORTRAIT = ROOT / "tests/data/portrait.jpg"


def example(name: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_sh(
    name: str, *arguments: object, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a shell script of the examples with this environment's commands first on the path."""
    done = subprocess.run(
        ["sh", ROOT / "examples" / name, *map(str, arguments)],
        cwd=cwd,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_every_example_is_run():
    text = Path(__file__).read_text()
    assert [path.name for path in (ROOT / "examples").iterdir() if path.name not in text] == []


def test_a_photo():
    assert ": happy " in example("photo.py", PORTRAIT)


def test_a_folder_to_a_table(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(PORTRAIT, tmp_path / name)
    (tmp_path / "c.jpg").write_bytes(b"nothing")
    table = tmp_path / "faces.csv"
    assert example("folder_to_table.py", tmp_path, table) == "happy: 2\n"
    assert [line.split(",")[0] for line in table.read_text().splitlines()] == [
        "picture", "a.jpg", "b.jpg",
    ]  # fmt: skip


def test_a_camera_or_a_clip(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", portrait_frames(10))
    assert "happy" in example("webcam.py", clip)


def test_a_model_of_ones_own(tmp_path):
    scores = np.eye(7, dtype=np.float32)[1:2] * 9
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "scores"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    constants = {"one": np.array([1]), "zero": np.zeros(1, np.float32), "scores": scores}
    shape = ("N", 1, 64, 64)
    model = save(tmp_path / "other.onnx", nodes, constants, input_shape=shape)
    assert example("own_model.py", model, PORTRAIT).startswith("happy 100%")


@pytest.mark.tensorflow
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="is a shell script")
def test_training_on_folders_of_ones_own(tmp_path):
    from fer_edge.contract import EMOTIONS
    from fer_train.data.synthetic import synthetic_faces

    images, labels = synthetic_faces(84, 0)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "own/train" / EMOTIONS[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    done = run_sh("train_own_folders.sh", "own", "out", "--epochs", "1", cwd=tmp_path)
    assert "edge" in done.stdout
    assert (tmp_path / "out/models/edge.onnx").is_file()
    assert (tmp_path / "out/report/report.html").is_file()


@pytest.mark.tensorflow
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform == "win32", reason="is a shell script")
def test_a_rented_gpu_goes_on_and_packs(tmp_path):
    """By pack_run.py, at its end."""
    from tests.support.made_votes import drawn_votes, write_drawn_votes

    write_drawn_votes(tmp_path / "votes.csv", drawn_votes(140))

    def command(seconds: int) -> "subprocess.CompletedProcess[str]":
        words = ["sh", ROOT / "examples/rented_gpu.sh", "synthetic:140", "votes.csv", "run"]
        few = ["--models", "edge", "--folds", "2", "--epochs", "2", "--batch-size", "32"]
        own = {"KERAS_BACKEND": "tensorflow", "LIMIT": str(seconds)}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            [*words, *few, "--jobs", "1"],
            cwd=tmp_path,
            env={**os.environ, **own, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    early = command(1)
    assert early.returncode == 124, early.stderr
    assert "give the same command again" in early.stderr
    done = command(1500)
    assert done.returncode == 0, done.stderr
    parts = sorted((tmp_path / "run.parts").iterdir())
    assert all(path.stat().st_size <= 16 * 2**20 for path in parts)

    (tmp_path / "home").mkdir()
    whole = b"".join(path.read_bytes() for path in parts)
    subprocess.run(["tar", "--extract"], input=whole, cwd=tmp_path / "home", check=True)
    ours, theirs = (
        [path.relative_to(folder) for path in sorted((folder / "run").glob("*/*/model.keras"))]
        for folder in (tmp_path, tmp_path / "home")
    )
    assert len(ours) == 2 and len(theirs) == 1 and theirs[0] in ours
    from fer_train.network._keras import keras

    images = np.random.default_rng(0).uniform(0, 255, (8, 48, 48, 1)).astype(np.float32)
    exact, rounded = (
        keras.saving.load_model(folder / theirs[0], compile=False).predict(images, verbose=0)
        for folder in (tmp_path, tmp_path / "home")
    )
    assert 0 < np.abs(exact - rounded).max() < 1e-2


@pytest.mark.tensorflow
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="is a shell script")
def test_an_architecture_of_ones_own_on_pictures_in_colour(tmp_path):
    from fer_edge.contract import EMOTIONS
    from fer_train.data.synthetic import draw_face

    for number in range(84):
        emotion = EMOTIONS[number % 7]
        path = tmp_path / "photos" / emotion / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw_face(emotion, (60, 100)[number % 2], seed=number))
    done = run_sh("own_architecture/train.sh", "photos", "out", "--epochs", "1", cwd=tmp_path)
    assert "42 of 84 images are enlarged to 64 x 64" in done.stderr
    assert "graph_inputs     image float (N, 64, 64, 3)" in done.stdout
    assert (tmp_path / "out/report/pictures/net-grad-cam.png").is_file()


def script(name: str, folder: Path, *arguments: object) -> list[str]:
    """Run one of the scripts of boards, which installs into a folder, and return what it prints."""
    done = run_sh(name, *arguments, VENV=str(folder), PYTHONPATH="")
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform == "win32", reason="are shell scripts")
def test_boards_install_and_watch(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", portrait_frames(10))
    pi = script("raspberry_pi.sh", tmp_path / "pi", clip)
    assert [json.loads(line)["faces"][0]["emotion"] for line in pi] == ["happy"] * 5
    # Here without its GPU; what is given last counts.
    jetson = script("jetson.sh", tmp_path / "jetson", "onnxruntime", clip, "--provider", "cpu")
    assert [json.loads(line)["faces"][0]["emotion"] for line in jetson] == ["happy"] * 10


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="is a step of a Linux image")
def test_docker_fills_an_image_of_at_most_450_mb(tmp_path):
    """The Dockerfile's own step, elsewhere; Debian and its Python take 115 MB beside it."""
    text = (ROOT / "examples/docker/Dockerfile").read_text()
    step = re.search(r"^RUN (python3 -m venv .*?)\n\n", text, re.DOTALL | re.MULTILINE)[1]
    place = tmp_path / "fer-edge"
    step = step.replace("/opt/fer-edge", str(place)).replace("/source", str(ROOT))
    step = step.replace("python3 -m", f"{sys.executable} -m")
    subprocess.run(["sh", "-ec", step], check=True, timeout=600, stdout=subprocess.DEVNULL)
    sizes = [path.lstat().st_size for path in place.rglob("*") if not path.is_dir()]
    assert sum(sizes) <= 335e6
    done = subprocess.run(
        [place / "bin/fer-edge", "classify", PORTRAIT], env={}, capture_output=True, text=True
    )
    assert "happy" in done.stdout and done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_ray_data_goes_on_when_a_node_is_killed(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    import pyarrow.parquet
    from ray.cluster_utils import Cluster

    face = cv2.resize(cv2.imread(str(PORTRAIT))[20:240, 100:350], (160, 140))
    (tmp_path / "photos/more").mkdir(parents=True)
    for number in range(240):
        folder = tmp_path / ("photos/more" if number % 2 else "photos")
        cv2.imwrite(str(folder / f"{number}.jpg"), face)
    (tmp_path / "photos/broken.jpg").write_bytes(b"nothing")
    # Ray's workers step back behind all else on a machine; here that is only slow.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    small = {"object_store_memory": 80 * 2**20}
    head = {"num_cpus": 0, "include_dashboard": False, **small}
    command = [sys.executable, ROOT / "examples/ray_data.py", "photos", "faces", "--shard", "4"]
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        node, _ = (cluster.add_node(num_cpus=1, **small) for _ in range(2))
        raylet = node.all_processes["raylet"][0].process.pid
        process = subprocess.Popen(
            [*command, "--address", cluster.address],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while len(list((tmp_path / "faces").glob("*.parquet"))) < 3:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        workers = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
        for pid in (raylet, *map(int, workers)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        output, messages = process.communicate(timeout=300)
    finally:
        cluster.shutdown()
    assert process.returncode == 1, messages
    assert "1 could not be read" in output
    found = pyarrow.parquet.read_table(tmp_path / "faces").to_pylist()
    assert len({row["image"] for row in found}) == len(found) == 241
    assert sum(row["emotion"] == "happy" for row in found) == 240
    (broken,) = [row for row in found if row["error"]]
    assert broken["image"].endswith("broken.jpg") and "Expected" in broken["error"]
    again = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (again.returncode, again.stderr) == (0, "61 shards, 0 to do\n")
