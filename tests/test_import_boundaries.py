"""The runtime stays light: what each import loads, seen from a fresh interpreter."""

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import fer_edge

ROOT = Path(__file__).parents[1]
TRAINER = {"fer_train", "tensorflow", "keras", "tf2onnx", "onnx", "jax", "torch", "pandas"} | {
    "sklearn", "scipy", "matplotlib", "ray", "skimage", "PIL", "tqdm"
}  # fmt: skip
HEAVY = {"cv2", "onnxruntime", "numpy"}


def loaded_after(code):
    """Run code in a new interpreter and return the top-level modules that it has loaded."""
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=120,
    )
    return set(done.stdout.splitlines()[-1].split())


def modules():
    return [name for _, name, _ in pkgutil.walk_packages(fer_edge.__path__, "fer_edge.")]


def test_no_module_of_the_runtime_loads_the_trainers_packages():
    assert len(modules()) > 10
    found = loaded_after("\n".join(f"import {name}" for name in modules()))
    assert {"fer_edge", *HEAVY} <= found
    assert not found & TRAINER


@pytest.mark.parametrize(
    "code",
    [
        "import fer_edge",
        "from fer_edge import EMOTIONS, FerError, ModelSpec",
        "import fer_edge.cli",
        "import fer_edge.contract",
    ],
)
def test_the_package_itself_loads_nothing_heavy(code):
    assert not loaded_after(code) & (HEAVY | TRAINER)


def commands():
    from fer_edge.cli import main

    return [[], *([name] for name in main.commands)]


@pytest.mark.parametrize("command", commands(), ids=lambda command: " ".join(command) or "fer-edge")
def test_help_loads_nothing_heavy(command):
    code = f"""
from fer_edge.cli import main
try:
    main({[*command, "--help"]!r}, prog_name="fer-edge")
except SystemExit as done:
    assert done.code == 0
"""
    assert not loaded_after(code) & (HEAVY | TRAINER)


def test_every_public_name_is_there():
    assert dir(fer_edge) == sorted(fer_edge.__all__)
    for name in fer_edge.__all__:
        assert hasattr(fer_edge, name), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fer_edge.nothing
