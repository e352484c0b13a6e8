"""benchmarks/latency.py and session_options.py on a tiny model."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import latency, session_options
from tests.support.tiny_onnx import save_tiny_onnx

ROOT = Path(__file__).parents[2]


def test_files_and_peers_run_side_by_side(tmp_path: Path) -> None:
    ours, peers, results = tmp_path / "ours", tmp_path / "peers", tmp_path / "results.json"
    ours.mkdir()
    peers.mkdir()
    save_tiny_onnx(ours / "tiny.onnx")
    save_tiny_onnx(ours / "tiny.int8.onnx", precision="int8")
    save_tiny_onnx(peers / "other.onnx")
    arguments = ["--exported", str(ours), "--peer", str(peers), "--batches", "1,2"]
    arguments += ["--threads", "1", "--rounds", "2", "--no-keras", "--json", str(results)]
    arguments += ["--provider", "cpu"]
    done = CliRunner().invoke(latency.main, arguments)
    assert done.exit_code == 0, done.output
    content = json.loads(results.read_text())
    assert [(row["name"], row["largest_difference"]) for row in content["parity"]] == [
        ("tiny.int8.onnx", 0),
        ("tiny.onnx", 0),
    ]
    names = ["matrix product", "tiny.int8.onnx", "tiny.onnx", "other.onnx"]
    assert [row["name"] for row in content["rows"]] == names * 2
    for row in content["rows"]:
        assert 0 < row["median_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["after_rest_ms"] > 0
        assert row["share_of_matrix_rate"] > 0
    pairs = {(row["slower"], row["faster"]) for row in content["ratios"]}
    assert pairs == {
        ("tiny.onnx", "tiny.int8.onnx"),
        ("other.onnx", "tiny.onnx"),
        ("other.onnx", "tiny.int8.onnx"),
    }


def test_a_race_takes_turns_and_ends_in_time() -> None:
    order: list[str] = []
    contenders = [
        latency.Contender(name, "onnx", "cpu", 1, 0.0, lambda name=name: order.append(name))
        for name in "ab"
    ]
    times = latency.race(contenders, rounds=50, seconds=0)
    assert [len(own) for own in times] == [5, 5]
    assert min(own.min() for own in times) > 0
    turns = "".join(
        name for name, after in zip(order, [*order[1:], ""], strict=True) if name != after
    )
    assert turns.endswith("ab" * 5)


def test_a_folder_without_models_is_an_error(tmp_path: Path) -> None:
    save_tiny_onnx(tmp_path / "tiny.onnx")
    (tmp_path / "empty").mkdir()
    arguments = ["--exported", str(tmp_path), "--peer", str(tmp_path / "empty"), "--no-keras"]
    done = CliRunner().invoke(latency.main, arguments)
    assert done.exit_code == 1
    assert "Expected a .tflite, .hdf5 or .onnx file in" in done.stderr


@pytest.mark.parametrize("name", ["as shipped", "no spinning", "no arena", "cached graph"])
def test_a_sessions_variants_answer_alike(tmp_path: Path, name: str) -> None:
    path, cached = save_tiny_onnx(tmp_path / "tiny.onnx"), tmp_path / "cached.onnx"
    run = session_options.open_variant(session_options.Variant(path, 1), cached)
    variant = session_options.variants(path, cached, 1)[name]
    (wanted,), (found,) = run(1), session_options.open_variant(variant)(1)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
