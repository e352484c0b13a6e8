"""benchmarks/parity.py: its exit codes and what it writes."""

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from benchmarks import parity as parity_module
from fer_edge.contract import ModelSpec
from tests.support.tiny_onnx import save_tiny_onnx

ROOT = Path(__file__).parents[2]


def parity(folder: Path, *arguments: str) -> Result:
    command = ["--exported", str(folder), "--count", "70", *arguments]
    return CliRunner().invoke(parity_module.main, command)


def test_equal_files_pass(tmp_path: Path) -> None:
    save_tiny_onnx(tmp_path / "tiny.onnx")
    save_tiny_onnx(tmp_path / "tiny.fp16.onnx", precision="fp16")
    results = tmp_path / "parity.json"
    done = parity(tmp_path, "--build", "", "--json", str(results))
    assert done.exit_code == 0, done.output
    (row,) = json.loads(results.read_text())["rows"]
    assert (row["file"], row["reference"], row["verdict"]) == ("tiny.fp16.onnx", "tiny.onnx", "ok")
    assert row["largest_difference"] == 0
    assert row["equal_predictions"] == 1
    assert len(row["recall"]) == 7


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_file_beyond_its_tolerance_exits_with_1(tmp_path: Path, precision: str) -> None:
    save_tiny_onnx(tmp_path / "tiny.onnx")
    save_tiny_onnx(tmp_path / f"tiny.{precision}.onnx", precision=precision, shift=8)
    done = parity(tmp_path, "--build", "")
    assert done.exit_code == 1
    assert "difference above" in done.stdout


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    save_tiny_onnx(tmp_path / "tiny.onnx")
    done = parity(tmp_path, "--build", "")
    assert done.exit_code == 1
    assert "Expected ONNX files with a .keras or fp32 file beside them" in done.stderr


def test_an_int8_file_that_ships_alone_has_the_parity_that_its_export_recorded(
    tmp_path: Path,
) -> None:
    save_tiny_onnx(tmp_path / "tiny.int8.onnx", precision="int8")
    made = {
        "images": 3589,
        "largest_difference": 0.25,
        "mean_difference": 0.001,
        "equal_predictions": 0.98,
        "accuracy": 0.61,
        "parent_accuracy": 0.612,
    }
    facts = tmp_path / "tiny.int8.json"
    facts.write_text(json.dumps({"int8": made}))
    results = tmp_path / "parity.json"
    done = parity(tmp_path, "--build", "", "--json", str(results))
    assert done.exit_code == 0, done.output
    assert "tiny.onnx, when exported" in done.stdout
    (row,) = json.loads(results.read_text())["rows"]
    assert (row["mean_difference"], row["reference_accuracy"]) == (0.001, 0.612)
    facts.write_text(json.dumps({"int8": made | {"accuracy": 0.6}}))
    lost = parity(tmp_path, "--build", "")
    assert lost.exit_code == 1
    assert "1.20% of top-1 lost" in lost.stdout


@pytest.mark.tensorflow
def test_a_fresh_build_is_compared_with_keras(tmp_path: Path) -> None:
    done = parity(tmp_path, "--build", "edge", "--built-count", "14")
    assert done.exit_code == 0, done.output
    assert "edge (random)" in done.stdout


@pytest.mark.tensorflow
def test_an_exported_file_that_is_not_its_keras_file_exits_with_1(tmp_path: Path) -> None:
    from fer_train.export.convert import export_file
    from fer_train.network._keras import keras

    image = keras.Input((48, 48, 1), name="image")
    net = keras.Model(image, keras.layers.Dense(7, "softmax")(keras.layers.Flatten()(image / 255)))
    net.save(tmp_path / "tiny.keras")
    export_file(tmp_path / "tiny.keras", ModelSpec(model="tiny"), tmp_path / "tiny.onnx")
    assert parity(tmp_path, "--build", "").exit_code == 0
    model = onnx.load(tmp_path / "tiny.onnx")
    weights = model.graph.initializer[0]
    value = onnx.numpy_helper.to_array(weights) * 1.1
    weights.CopyFrom(onnx.numpy_helper.from_array(value.astype("float32"), weights.name))
    onnx.save(model, tmp_path / "tiny.onnx")
    done = parity(tmp_path, "--build", "")
    assert done.exit_code == 1
    assert "difference above 1e-05" in done.stdout
