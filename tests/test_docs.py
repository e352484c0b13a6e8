"""What the documents show is what happens: Python, transcripts, links, the commands' page."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fer_edge import __version__
from fer_edge.cli import main as fer_edge
from fer_train.cli import main as fer_train

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "exported/MODELS.md"])
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TRANSCRIPT = re.compile(r"^```\n(\$ .*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s:]+)(#[^)]*)?\)")


def found(pattern: re.Pattern[str]) -> list[object]:
    return [
        pytest.param(match[1], id=f"{document.name}-{number}")
        for document in DOCUMENTS
        for number, match in enumerate(pattern.finditer(document.read_text()))
    ]


def run(*command: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    missing = [
        target
        for target, _ in LINK.findall(document.read_text())
        if not (document.parent / target).exists()
    ]
    assert missing == []


@pytest.mark.tensorflow
def test_the_commands_page_is_what_the_commands_say():
    run(sys.executable, "docs/write_cli.py", "--check")


def test_the_version_is_told_alike():
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [__version__]
    newest = re.findall(r"^## (\S+),", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert newest == __version__


@pytest.mark.parametrize("group", [fer_edge, fer_train], ids=["fer-edge", "fer-train"])
def test_the_list_of_commands_cuts_no_text_at_80_columns(group):
    # Of 80 columns click leaves two free.
    text = CliRunner().invoke(group, ["--help"], terminal_width=78).stdout
    listed = text[text.index("Commands:") :].splitlines()[1:]
    assert [line.split()[0] for line in listed] == sorted(group.commands)
    assert [line for line in listed if line.endswith("...")] == []


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text()) <= 8000


@pytest.mark.parametrize("block", found(PYTHON))
def test_python_blocks_run(block):
    assert run(sys.executable, "-c", block)


@pytest.mark.parametrize("transcript", found(TRANSCRIPT))
def test_transcripts_are_what_is_printed(transcript):
    command, _, expected = transcript.partition("\n")
    program, *arguments = shlex.split(command.removeprefix("$ "))
    package = program.replace("-", "_")
    printed = run(sys.executable, "-c", f"from {package}.cli import main; main()", *arguments)
    assert printed == expected
