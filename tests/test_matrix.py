"""The package as a wheel, with other releases of OpenCV, onnxruntime and numpy around it.

Each in a bare environment: the lowest that pyproject.toml allows, the newest, and those where
something changed.

It installs from the package registry and takes minutes: ``make test-slow``.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_edge.contract import EMOTIONS
from tests.support.clips import PORTRAIT, portrait_frames, write_clip
from tests.support.models import save_yunet_like

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def lowest() -> list[str]:
    """Return the first release of each package that the runtime may be installed with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    found = []
    for requirement in project["dependencies"] + extras["cpu"] + extras["headless"]:
        name, _, limits = requirement.partition(">=")
        found.append(f"{name}=={limits.split(',')[0]}.0.*")
    return found


ENVIRONMENTS = {
    "lowest": ("cpu,headless", lowest()),
    # The last with the older name of the log level; it takes no numpy from 2.3 on.
    "opencv-4.12": ("cpu,headless", ["opencv-python-headless==4.12.*"]),
    "newest-4": ("cpu,headless", ["opencv-python-headless<5"]),
    "opencv-5": ("cpu", ["opencv-python-headless>=5,<6"]),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def python(request, wheel, tmp_path_factory):
    """Return the Python of an environment that holds the wheel and what it needs, no more."""
    extras, pins = ENVIRONMENTS[request.param]
    made = make_environment(tmp_path_factory.mktemp(request.param))
    pip(made, "install", f"{wheel}[{extras}]", *pins)
    return made


@pytest.fixture
def files(tmp_path):
    write_clip(tmp_path / "clip.mp4", portrait_frames(10))
    save_yunet_like(tmp_path / "yunet.onnx")
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[64:96, 160:192] = 255
    cv2.imwrite(str(tmp_path / "cell.png"), picture)
    rows = [f"{emotion},{' '.join([str(30 * emotion)] * 48 * 48)},Training" for emotion in range(7)]
    (tmp_path / "faces.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]))
    return tmp_path


def make_environment(folder):
    venv.create(folder, with_pip=True)
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def pip(python, command, *arguments):
    line = [python, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(line, check=True, timeout=900)


def run(python, folder, code, *arguments):
    done = subprocess.run(
        [python, "-c", code, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def fer_edge(python, folder, *arguments):
    code = "from fer_edge.cli import main; main(prog_name='fer-edge')"
    return run(python, folder, code, *arguments)


def opencv_of(python):
    return int(run(python, ".", "import cv2; print(cv2.__version__)").stdout.split(".")[0])


def records(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_doctor_and_info_find_it_well(python, files):
    done = fer_edge(python, files, "doctor", "--json")
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)
    assert findings["problems"] == [] and findings["default_model"]["runs_on"] == "cpu"
    done = fer_edge(python, files, "info", "edge.onnx", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["labels"] == list(EMOTIONS)


def test_the_face_of_a_picture_is_found_and_named(python, files):
    (face,) = records(fer_edge(python, files, "classify", PORTRAIT, "--format", "jsonl"))[0][
        "faces"
    ]
    assert face["emotion"] == "happy"
    assert face["confidence"] == pytest.approx(0.976, abs=0.05)


def test_the_cascade_works_or_says_what_to_take_instead(python, files):
    done = fer_edge(python, files, "classify", PORTRAIT, "--detector", "haar", "--format", "jsonl")
    if opencv_of(python) < 5:
        assert records(done)[0]["faces"][0]["box"] == [176, 66, 97, 97]
        return
    assert done.returncode == 1
    assert "haar detector is gone" in done.stderr and "--detector face" in done.stderr


def test_a_picture_that_is_a_face_is_answered_alike_everywhere(python, files):
    crop = cv2.imread(str(PORTRAIT))[66:163, 176:273]
    cv2.imwrite(str(files / "face.png"), crop)
    done = fer_edge(
        python, files, "classify", "face.png", "--detector", "none", "--format", "jsonl"
    )
    (face,) = records(done)[0]["faces"]
    assert face["emotion"] == "happy"
    from fer_edge import Classifier

    expected = Classifier("edge.onnx", detector="none")(crop)[0].probabilities
    assert face["probabilities"] == pytest.approx(dict(expected), abs=1e-3)


def test_a_cut_picture_is_never_answered(python, files):
    content = PORTRAIT.read_bytes()
    (files / "cut.jpg").write_bytes(content[: len(content) // 2])
    done = fer_edge(python, files, "classify", "cut.jpg", "--detector", "none", "--format", "jsonl")
    assert done.returncode == 1
    (record,) = map(json.loads, done.stdout.splitlines())
    assert record["status"] == "error" and "cut short" in record["error"]


def test_yunet_runs_and_pictures_are_annotated(python, files):
    flags = ("--detector", "yunet", "--detector-model", "yunet.onnx")
    done = fer_edge(
        python, files, "classify", "cell.png", *flags, "--format", "jsonl", "--annotate", "seen"
    )
    (face,) = records(done)[0]["faces"]
    assert face["box"] == [144, 48, 32, 32]
    drawn, plain = (cv2.imread(str(files / place)) for place in ("seen/cell.png", "cell.png"))
    # A small picture is drawn larger, so that its labels can be read.
    height, width = plain.shape[:2]
    assert drawn.shape == (2 * height, 2 * width, 3)
    larger = cv2.resize(plain, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    assert cv2.absdiff(drawn, larger).max() > 100


def test_a_video_is_watched_recorded_and_drawn(python, files):
    outputs = ("--record", "out.mp4", "--timeline", "time.png", "--output", "-")
    found = records(fer_edge(python, files, "video", "clip.mp4", *outputs))
    assert [record["frame"] for record in found] == list(range(10))
    assert [len(record["faces"]) for record in found] == [1] * 10
    assert cv2.VideoCapture(str(files / "out.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 10
    assert cv2.imread(str(files / "time.png")).shape[1] == 1280


def test_the_page_is_there_and_says_what_npm_must_bring(python, files):
    done = fer_edge(python, files, "web", "--no-open")
    assert done.returncode == 1
    place = re.search(r"npm ci --prefix (\S+) ", done.stderr)
    assert place and Path(place[1]).is_relative_to(python.parents[1])
    there = {path.name for path in Path(place[1]).iterdir()}
    assert {"index.html", "worker.js", "package-lock.json"} <= there


def test_the_trainer_reads_its_data(python, files):
    code = """
from fer_train.data.load import load_dataset
for source in ("faces.csv", "synthetic:14"):
    data = load_dataset(source)
    print(*data.images.shape, *data.labels.tolist()[:7])
"""
    done = run(python, files, code)
    assert done.returncode == 0, done.stderr
    table, drawn = done.stdout.splitlines()
    assert table == "7 48 48 0 1 2 3 4 5 6"
    assert drawn.startswith("14 48 48 ")


def test_an_opencv_built_for_numpy_1_says_what_to_install(wheel, files, tmp_path_factory):
    python = make_environment(tmp_path_factory.mktemp("numpy-2"))
    pip(python, "install", f"{wheel}[cpu,headless]", "opencv-python-headless==4.8.0.*", "numpy>=2")
    done = fer_edge(python, files, "classify", "cell.png")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: opencv-python-headless 4.8.0.")
    assert "was built for numpy 1" in done.stderr and "pip install 'numpy<2'" in done.stderr
    assert done.stderr.count("\n") == 1
    done = fer_edge(python, files, "doctor")
    assert done.returncode == 1 and "problem: opencv-python-headless 4.8.0." in done.stderr


@pytest.mark.parametrize("extras", ["cpu,headless", "cpu,gui", "cpu,headless,heic,tables", "gpu"])
def test_boards_with_64_bit_arm_get_wheels_alone(wheel, extras, tmp_path):
    assert wheel.name.endswith("-py3-none-any.whl")
    # Those that glibc 2.35 takes; pip knows no range of them.
    tags = ("2014", "_2_17", "_2_24", "_2_26", "_2_27", "_2_28", "_2_31", "_2_34", "_2_35")
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in tags]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
         *platforms, "--only-binary=:all:", "--target", tmp_path, "--report", "-",
         f"{wheel}[{extras}]"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    chosen = {part["metadata"]["name"] for part in json.loads(done.stdout)["install"]}
    runtime = {"onnxruntime-gpu"} if extras == "gpu" else {"onnxruntime"}
    assert {"fer-edge", "numpy"} | runtime <= chosen
