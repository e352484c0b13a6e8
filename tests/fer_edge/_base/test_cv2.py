"""What is said of an OpenCV that cannot be used, and that every allowed one is silenced."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def load(folder, content, numpy_version=None, build=None):
    """Import OpenCV as fer_edge does, from a module of that content; return what is printed."""
    (folder / "cv2.py").write_text(content)
    if numpy_version:
        (folder / "numpy.py").write_text(f"__version__ = {numpy_version!r}")
    if build:
        (folder / f"{build}.dist-info").mkdir()
    code = "import fer_edge._base._cv2 as found; print(found.cv2.levels)"
    return subprocess.run(
        # Without site-packages, where the tests' own OpenCV is.
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), *_click_alone(folder)])},
        timeout=120,
    )


def _click_alone(folder):
    import click

    alone = folder / "packages"
    alone.mkdir()
    (alone / "click").symlink_to(Path(click.__file__).parent)
    return [str(alone)]


OLD = "levels = []\nsetLogLevel = levels.append\nclass utils: pass\n"
NEW = "levels = []\nclass utils:\n    class logging:\n        setLogLevel = levels.append\n"


@pytest.mark.parametrize(
    ("version", "content"),
    [("4.8.0", OLD), ("4.12.0-dev", OLD), ("4.13.0", NEW), ("5.0.0-pre", NEW)],
)
def test_every_allowed_opencv_is_taken_and_silenced(tmp_path, version, content):
    done = load(tmp_path, f"__version__ = {version!r}\n{content}", "1.26.0")
    assert (done.stdout, done.stderr, done.returncode) == ("[0]\n", "", 0)


@pytest.mark.parametrize("version", ["3.4.18", "4.7.0", "6.0.0"])
def test_others_are_refused_with_the_line_that_mends_it(tmp_path, version):
    done = load(tmp_path, f"__version__ = {version!r}", "2.4.0", f"opencv_python-{version}")
    assert f"Expected OpenCV 4.8 to 5, received {version}" in done.stderr
    assert "pip install 'opencv-python>=4.8,<6'" in done.stderr


@pytest.mark.parametrize(
    ("build", "name", "package"),
    [
        (None, "OpenCV", "opencv-python-headless"),
        ("opencv_python-4.9.0.80", "opencv-python 4.9.0.80", "opencv-python"),
    ],
)
def test_an_opencv_built_for_numpy_1_says_so_and_no_more(tmp_path, build, name, package):
    noise = "import sys\nsys.stderr.write('A module that was compiled using NumPy 1.x ...')\n"
    content = f"{noise}raise ImportError('numpy.core.multiarray failed to import')"
    done = load(tmp_path, content, "2.4.6", build)
    message = done.stderr.rpartition("DependencyError: ")[2]
    assert message == (
        f"{name} was built for numpy 1 and cannot be loaded with numpy 2.4.6; run: "
        f"pip install 'numpy<2', or for a newer OpenCV: pip install '{package}>=4.10,<6'\n"
    )
    assert "A module that was compiled" not in done.stderr


def test_what_an_opencv_that_loads_says_is_not_lost(tmp_path):
    content = f"import sys\nprint('a warning', file=sys.stderr)\n__version__ = '4.8.0'\n{OLD}"
    assert load(tmp_path, content, "1.26.0").stderr == "a warning\n"
