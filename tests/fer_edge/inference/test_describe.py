import json

import numpy as np
import pytest
from click.testing import CliRunner

from fer_edge import Classifier
from fer_edge.cli import main
from fer_edge.contract import ModelSpec
from fer_edge.errors import ModelError
from fer_edge.image.read import read_image
from tests.support.models import save_brightness_model, save_color_model

FLAGS = ["--labels", "red,green,blue", "--color", "rgb", "--range", "0,1"]


@pytest.fixture
def red(tmp_path):
    import cv2

    frame = np.zeros((40, 40, 3), np.uint8)
    frame[:, :, 2] = 250
    cv2.imwrite(str(tmp_path / "red.png"), frame)
    return str(tmp_path / "red.png")


def classify(*arguments):
    command = ["classify", *map(str, arguments), "--detector", "none", "--format", "jsonl"]
    return CliRunner().invoke(main, command)


def emotion(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["faces"][0]["emotion"]


def test_a_foreign_model_runs_with_flags(tmp_path, red):
    model = save_color_model(tmp_path / "color.onnx")
    assert emotion(classify(red, "--model", model, *FLAGS)) == "red"
    swapped = [*FLAGS, "--channels", "bgr"]
    assert emotion(classify(red, "--model", model, *swapped)) == "blue"


def test_free_sizes_and_axes_must_be_told(tmp_path, red):
    model = save_color_model(tmp_path / "free.onnx", layout="nhwc", size=("H", "W"))
    result = classify(red, "--model", model, *FLAGS)
    assert result.exit_code == 1
    assert "--input-size HEIGHTxWIDTH" in result.stderr
    full = [*FLAGS, "--input-size", "20x24", "--layout", "nhwc", "--mean", "0.5,0.4,0.3"]
    assert emotion(classify(red, "--model", model, *full, "--std", "0.2")) == "red"


def test_without_flags_it_is_refused_and_the_flags_are_named(tmp_path, red):
    model = save_color_model(tmp_path / "color.onnx")
    result = classify(red, "--model", model)
    assert result.exit_code == 1
    assert result.stdout == ""
    for flag in ("no fer-edge metadata", "--labels", "--color", "--range", "color.toml"):
        assert flag in result.stderr
    assert "--layout" not in result.stderr  # the graph itself says it


def test_a_toml_file_beside_it_describes_it_too(tmp_path, red):
    model = save_color_model(tmp_path / "color.onnx")
    (tmp_path / "color.toml").write_text(
        'labels = ["red", "green", "blue"]\nchannels = "rgb"\nrange = [0, 1]\n'
        'input-size = 32\nlayout = "nchw"\nmean = [0.5, 0.5, 0.5]\nstd = 0.25\nmargin = 0.1\n'
    )
    assert emotion(classify(red, "--model", model)) == "red"
    assert emotion(classify(red, "--model", model, "--labels", "r,g,b")) == "r"
    assert Classifier(model).spec.margin == 0.1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("labels = [", "as TOML"),
        ('colour = "rgb"', "received 'colour'"),
        ('labels = "red"', "list of names"),
        ("labels = 7", "list of names"),
        ("range = ['a', 'b']", "another value of range"),
        ("input_size = [1, 2, 3]", "another value of input_size"),
        ('input_size = "big"\nlabels = ["a", "b", "c"]\nrange=[0,1]\nchannels="rgb"', "input"),
        ('labels = ["a", "b", "c"]\nrange=[1,0]\nchannels="rgb"', "lower and a higher"),
        ('labels = ["a", "b", "c"]\nrange=[0,1]\nchannels="hsv"', "gray or rgb or bgr"),
        ('labels = ["a", 2, "c"]\nrange=[0,1]\nchannels="rgb"', "label names"),
    ],
)
def test_wrong_descriptions_are_refused(tmp_path, text, reason):
    model = save_color_model(tmp_path / "color.onnx")
    (tmp_path / "color.toml").write_text(text)
    with pytest.raises(ModelError, match=reason):
        Classifier(model)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--labels", "a,b"], "2 numbers for its labels a, b"),
        (["--input-size", "48"], r"(3, 48, 48) as it is described"),
        (["--layout", "nhwc"], "as it is described"),
        (["--channels", "gray"], "as it is described"),
        (["--std", "0"], "std above 0"),
        (["--mean", "1,2"], "1 or 3 values of mean"),
    ],
)
def test_descriptions_must_fit_the_graph(tmp_path, red, flags, reason):
    model = save_color_model(tmp_path / "color.onnx")
    result = classify(red, "--model", model, *FLAGS, *flags)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Expected ")
    assert reason in result.stderr


@pytest.mark.parametrize(
    "flags", [["--range", "0-1"], ["--input-size", "axb"], ["--layout", "hwc"], ["--mean", ""]]
)
def test_flags_that_cannot_be_read_are_usage_errors(red, flags):
    result = classify(red, *flags)
    assert result.exit_code == 2
    assert f"Invalid value for '{flags[0]}'" in result.stderr


def test_our_own_files_need_no_flags_but_obey_them(tmp_path):
    model = save_brightness_model(tmp_path / "ours.onnx")
    labels = tuple("abcdefg")
    assert Classifier(model, labels=labels).spec.labels == labels
    frame = read_image("tests/data/portrait.jpg")
    assert Classifier(model, labels=labels)(frame)[0].emotion in labels


def test_a_prior_stays_with_its_own_labels(tmp_path):
    prior = (0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1)
    metadata = ModelSpec(model="ours", prior=prior).to_metadata()
    model = save_brightness_model(tmp_path / "ours.onnx", metadata=metadata)
    assert Classifier(model, labels=tuple("abcdefg")).spec.prior == prior
    with pytest.raises(ModelError, match="2 numbers for its labels a, b"):
        Classifier(model, labels=("a", "b"))
