"""Both command lines with standard streams that are closed or full, as a shell leaves them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PORTRAIT = ROOT / "tests" / "data" / "portrait.jpg"
CLOSED = "Error: Cannot write: standard output is closed"
FULL = "Error: Cannot write the output: No space left on device\n"
HELP = ("--help", "--version")

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")


def shell(folder, line, package="fer_edge"):
    command = f"{sys.executable} -c 'from {package}.cli import main; main(prog_name=\"it\")' {line}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    ("package", "line"),
    [
        *[(package, line) for package in ("fer_edge", "fer_train") for line in HELP],
        ("fer_edge", "cameras --help"),
        ("fer_train", "cards --help"),
    ],
)
def test_a_full_disk_behind_help_is_one_message(tmp_path, package, line):
    done = shell(tmp_path, f"{line} >/dev/full", package)
    assert (done.returncode, done.stderr) == (1, FULL)


@pytest.mark.parametrize("package", ["fer_edge", "fer_train"])
def test_help_to_a_closed_output_is_one_message(tmp_path, package):
    done = shell(tmp_path, "--help >&-", package)
    assert (done.returncode, done.stderr) == (1, f"{CLOSED}\n")


@pytest.mark.parametrize("line", ["info edge.onnx", "doctor --json", f"classify {PORTRAIT}"])
@pytest.mark.parametrize("redirect", [">&-", ">/dev/full"])
def test_results_that_go_nowhere_are_an_error(tmp_path, line, redirect):
    done = shell(tmp_path, f"{line} {redirect}")
    assert done.returncode == 1
    assert done.stderr.startswith(CLOSED if redirect == ">&-" else FULL)


def test_what_is_written_to_a_file_needs_no_output(tmp_path):
    done = shell(tmp_path, f"classify {PORTRAIT} --output faces.csv >&- <&-")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "faces.csv").read_text().count("\n") == 2


def test_a_file_does_not_take_the_place_of_a_closed_stream(tmp_path):
    """A library that writes to descriptor 2 would write into it."""
    code = """
import os, sys
from click.testing import CliRunner
from fer_edge._base.command import CommandGroup
group = CommandGroup()
@group.command()
def it():
    taken = os.open("taken.txt", os.O_CREAT | os.O_WRONLY)
    os.write(2, b"noise")
    os.write(taken, str(taken > 2).encode())
group(["it"])
"""
    (tmp_path / "it.py").write_text(code)
    subprocess.run(
        ["bash", "-c", f"{sys.executable} it.py <&- >&- 2>&-"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert (tmp_path / "taken.txt").read_text() == "True"


def test_standard_input_that_is_closed_is_told(tmp_path):
    done = shell(tmp_path, "classify - --format jsonl <&-")
    assert done.returncode == 1
    assert "standard input, which is closed" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("line", "status"),
    [(f"classify {PORTRAIT} --format csv", 0), ("classify missing.jpg", 1), ("nosuch", 2)],
)
def test_messages_that_go_nowhere_change_no_result(tmp_path, line, status):
    done = shell(tmp_path, f"{line} 2>&-")
    assert done.returncode == status
    assert (PORTRAIT.name in done.stdout) == (status == 0)
