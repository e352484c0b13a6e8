import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_edge._base._installed import ONNXRUNTIME_BUILDS, OPENCV_BUILDS, installed_builds

ROOT = Path(__file__).parents[3]


def test_finds_what_is_installed(tmp_path, monkeypatch):
    for name in ("onnxruntime_gpu-1.21.0", "opencv_python-4.11.0.86", "other-1"):
        (tmp_path / f"{name}.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "missing")])
    assert installed_builds(ONNXRUNTIME_BUILDS) == {"onnxruntime-gpu": "1.21.0"}
    assert installed_builds(OPENCV_BUILDS) == {"opencv-python": "4.11.0.86"}


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-c", "from fer_edge.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
        timeout=120,
    )


def test_two_builds_of_onnxruntime_are_refused_with_the_cure(tmp_path):
    (tmp_path / "onnxruntime_gpu-1.21.0.dist-info").mkdir()
    done = run(tmp_path, "info")
    assert done.returncode == 1
    assert "pip uninstall -y" in done.stderr
    assert "Traceback" not in done.stderr
    done = run(tmp_path, "doctor")
    assert done.returncode == 1
    assert done.stderr.count("problem: Expected one build of onnxruntime") == 1


@pytest.mark.parametrize(("module", "reason"), [("cv2", "OpenCV"), ("onnxruntime", "onnxruntime")])
def test_what_cannot_be_loaded_is_one_message(tmp_path, module, reason):
    (tmp_path / f"{module}.py").write_text("raise ImportError('libGL.so.1: cannot open')")
    done = subprocess.run(
        [sys.executable, "-c", "from fer_edge.cli import main; main(['classify', 'x.png'])"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        timeout=120,
    )
    assert done.returncode == 1
    assert "libGL.so.1" in done.stderr and "pip" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("own", "seen"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_onnxruntime_is_told_to_report_nothing_before_it_is_loaded(tmp_path, own, seen):
    (tmp_path / "onnxruntime.py").write_text(
        "import os; raise ImportError('silent: ' + os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    clean = {key: text for key, text in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", "import fer_edge._base._ort"],
        capture_output=True,
        text=True,
        env={**clean, **own, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        timeout=120,
    )
    assert f"silent: {seen}" in done.stderr
