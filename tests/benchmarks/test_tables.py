"""benchmarks/tables.py: the documents say what was measured, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import tables
from fer_edge.errors import FerError

ROOT = Path(__file__).parents[2]


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in strings(part)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def text_of(name: str) -> str:
    return f"before\n\n<!-- table: {name} -->\nold\n<!-- end -->\n\nafter\n"


def test_the_documents_are_what_was_measured() -> None:
    done = CliRunner().invoke(tables.main, ["--check"])
    assert done.exit_code == 0, done.stderr


def test_the_documents_have_every_table() -> None:
    text = "".join(document.read_text() for document in tables.DOCUMENTS)
    assert [name for name in tables.TABLES if f"<!-- table: {name} -->" not in text] == []


def test_a_document_that_differs_is_refused_and_then_written(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    text = tables.DOCUMENTS[0].read_text()
    readme.write_text(text.replace("`sequential.onnx`", "`another.onnx`"))
    before = readme.read_text()
    done = CliRunner().invoke(tables.main, [str(readme), "--check"])
    assert done.exit_code == 1
    assert "Not what was measured: README.md; run benchmarks/tables.py" in done.stderr
    assert readme.read_text() == before
    assert CliRunner().invoke(tables.main, [str(readme)]).exit_code == 0
    assert CliRunner().invoke(tables.main, [str(readme), "--check"]).exit_code == 0


def test_the_readme_can_be_read_at_once() -> None:
    assert len(tables.DOCUMENTS[0].read_text()) <= 8000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (text_of("nothing"), "Expected a table of models, .* received nothing"),
        ("<!-- table: models -->\n", "Expected an <!-- end -->"),
    ],
)
def test_wrong_marks_are_refused(text: str, message: str) -> None:
    with pytest.raises(FerError, match=message):
        tables.render(text, tables.Measured())


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    rendered = tables.render(text_of("parity"), tables.Measured(results=tmp_path))
    assert rendered == text_of("parity").replace(
        "old", "Not measured yet: `make bench` writes parity.json."
    )


def test_latencies_and_the_ratios_that_say_something(tmp_path: Path) -> None:
    def row(name: str, kind: str, threads: int, ms: float) -> dict[str, object]:
        return {
            "name": name, "kind": kind, "provider": "cpu", "threads": threads, "batch_size": 1,
            "median_ms": ms, "p95_ms": ms, "p99_ms": ms, "after_rest_ms": 2 * ms,
            "images_per_s": 1000 / ms,
            "share_of_matrix_rate": 0.5 if kind == "onnx" else None,
        }  # fmt: skip

    def ratio(slower: str, faster: str, threads: int = 2) -> dict[str, object]:
        return {
            "slower": slower, "faster": faster, "threads": threads, "batch_size": 1, "ratio": 4.0,
            "after_rest": 3.0,
        }  # fmt: skip

    content = {
        "rows": [
            row("matrix product", "matrix", 2, 9),
            row("sequential.onnx", "onnx", 1, 3),
            row("sequential.onnx", "onnx", 2, 2),
            row("sequential.keras predict", "keras", 0, 50),
        ],
        "ratios": [
            ratio("sequential.onnx", "sequential.int8.onnx"),
            ratio("sequential.onnx", "sequential.int8.onnx", threads=1),
            ratio("sequential.keras predict", "sequential.onnx"),
            ratio("sequential.keras call", "sequential.onnx"),
            ratio("peer.onnx", "sequential.int8.onnx"),
            ratio("peer.onnx", "sequential.onnx"),
        ],
    }
    (tmp_path / "latency.json").write_text(json.dumps(content))
    shutil.copy(tables.RESULTS / "peers.json", tmp_path)
    measured = tables.Measured(results=tmp_path)
    latency = tables.latency_table(measured)
    assert (
        "| `sequential.onnx` | cpu, 2 threads | 2.00 | 2.00 | 2.00 | 4.00 | 500 | 50% |" in latency
    )
    assert "| `sequential.onnx` | cpu, 1 thread | 3.00 |" in latency
    assert "matrix product" not in latency
    ratios = [line.split(" | ") for line in tables.ratios_table(measured).splitlines()[2:]]
    assert [(cells[0], *cells[2:]) for cells in ratios] == [
        ("| `sequential.onnx`", "2", "4.00", "3.00 |"),
        ("| `sequential.onnx`", "1", "4.00", "3.00 |"),
        ("| `sequential.keras predict`", "2", "4.00", "3.00 |"),
        ("| `peer.onnx`", "2", "4.00", "3.00 |"),
    ]
    (line,) = [
        line for line in tables.models_table(measured).splitlines() if "`sequential.onnx`" in line
    ]
    assert line.endswith("| 2.00 |")


@pytest.mark.parametrize("path", sorted(tables.RESULTS.rglob("*.json")), ids=lambda path: path.name)
def test_results_hold_no_paths_of_the_machine(path: Path) -> None:
    found = strings(json.loads(path.read_text()))
    assert [text for text in found if text.startswith(("/", "~", "file:")) or "/tmp" in text] == []
