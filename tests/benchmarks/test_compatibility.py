"""benchmarks/compatibility.py, and the limits of old runtimes for what is shipped."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from benchmarks import compatibility
from tests.support.tiny_onnx import save_tiny_onnx

ROOT = Path(__file__).parents[2]


# What onnxruntime 1.19 (August 2024) reads, the oldest that the package allows.
NEWEST_IR, NEWEST_OPSET = 10, 21


@pytest.mark.parametrize(
    "path", sorted(compatibility.EXPORTED.glob("*.onnx")), ids=lambda path: path.name
)
def test_shipped_graphs_suit_old_runtimes_and_hold_nothing_needless(path: Path) -> None:
    facts = compatibility.graph_facts(path)
    assert facts["ir_version"] <= NEWEST_IR
    assert set(facts["opsets"]) == {"ai.onnx"}
    assert 17 <= facts["opsets"]["ai.onnx"] <= NEWEST_OPSET
    assert facts["needless"] == []


def test_opencv_runs_a_file_and_is_compared(tmp_path: Path) -> None:
    path, results = save_tiny_onnx(tmp_path / "tiny.onnx"), tmp_path / "results.json"
    arguments = [str(path), "--onnxruntime", "", "--json", str(results)]
    done = CliRunner().invoke(compatibility.main, arguments)
    assert done.exit_code == 0, done.output
    facts = json.loads(results.read_text())["files"]["tiny.onnx"]
    assert facts["operators"]["Conv"] == 2
    (row,) = facts["runtimes"]
    assert (row["runtime"], row["loads"], row["equal_predictions"]) == ("OpenCV DNN", True, 1)


def test_a_needless_operator_exits_with_1(tmp_path: Path) -> None:
    path = save_tiny_onnx(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "softmax"
    model.graph.node.append(onnx.helper.make_node("Identity", ["softmax"], ["probabilities"]))
    onnx.save(model, path)
    done = CliRunner().invoke(compatibility.main, [str(path), "--onnxruntime", ""])
    assert done.exit_code == 1
    assert "needless: Identity" in done.stdout


def test_a_python_without_that_runtime_is_told(tmp_path: Path) -> None:
    path = save_tiny_onnx(tmp_path / "tiny.onnx")
    batch = np.zeros((1, 48, 48, 1), np.float32)
    found = compatibility.predict_elsewhere(Path(sys.executable), "0.1", path, batch)
    assert str(found).startswith("Expected onnxruntime 0.1, received ")


def test_a_runtime_that_answers_otherwise_is_not_ok() -> None:
    wanted = np.eye(7, dtype=np.float32)
    assert compatibility.compare("old", "fp32", wanted, wanted + 1e-6)["ok"]
    assert not compatibility.compare("old", "fp32", wanted, wanted + 1e-4)["ok"]
    assert compatibility.compare("old", "int8", wanted, wanted + 1e-4)["ok"]
    assert not compatibility.compare("old", "int8", wanted, wanted[::-1])["ok"]
    assert compatibility.compare("old", "int8", wanted, "no such operator") == {
        "runtime": "old", "loads": False, "reason": "no such operator", "ok": False
    }  # fmt: skip
