"""The options that choose and describe a model, and how its answers are read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fer_edge import Classifier, read_image
from fer_edge._base.command import with_flags
from fer_edge.cli import main
from fer_edge.contract import ModelSpec
from tests.support.models import save_sided_model

PORTRAIT = "tests/data/portrait.jpg"
PRIOR = (0.05, 0.05, 0.1, 0.4, 0.1, 0.1, 0.2)


@pytest.fixture
def model(tmp_path):
    """A model that tells a face from its mirror image, and says its prior."""
    spec = ModelSpec(model="sided", prior=PRIOR)
    return save_sided_model(tmp_path / "sided.onnx", metadata=spec.to_metadata())


def classify(*arguments):
    command = ["classify", PORTRAIT, "--format", "jsonl", *map(str, arguments)]
    return CliRunner().invoke(main, command)


def record(*arguments):
    result = classify(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("flags", "mirror"),
    [
        ([], True),
        (["--no-mirror"], False),
        (["--detector", "none"], False),
        (["--detector", "none", "--mirror"], True),
    ],
)
def test_faces_that_a_detector_found_are_mirrored_unless_it_is_said(model, flags, mirror):
    found = record("--model", model, *flags)
    assert found["mirror"] is mirror
    detector = "none" if "none" in flags else "face"
    (face,) = Classifier(model, detector=detector, mirror=mirror)(read_image(PORTRAIT))
    (other,) = Classifier(model, detector=detector, mirror=not mirror)(read_image(PORTRAIT))
    answers = list(found["faces"][0]["probabilities"].values())
    assert answers == pytest.approx(list(face.probabilities.values()), abs=1e-5)
    assert np.abs(np.subtract(answers, list(other.probabilities.values()))).max() > 1e-3


def test_the_library_and_video_do_not_mirror(model, tmp_path):
    assert Classifier(model).mirror is False
    helps = CliRunner().invoke(main, ["video", "--help"]).stdout
    assert "[default: off]" in " ".join(helps.split())


@pytest.mark.parametrize(("prior", "power"), [("uniform", 1.0), ("training", 0.0), ("0.5", 0.5)])
def test_the_prior_is_taken_out(model, prior, power):
    plain = record("--model", model, "--prior", "0")
    found = record("--model", model, "--prior", prior)
    assert (plain["prior"], found["prior"]) == (0.0, power)
    before, after = (
        np.array(list(one["faces"][0]["probabilities"].values())) for one in (plain, found)
    )
    wanted = before / np.power(PRIOR, power)
    np.testing.assert_allclose(after, wanted / wanted.sum(), atol=1e-5)


def test_a_prior_that_nobody_knows_is_refused_with_the_reason(tmp_path):
    model = save_sided_model(tmp_path / "sided.onnx")
    result = classify("--model", model, "--prior", "uniform")
    assert result.exit_code == 1
    assert "for --prior uniform, received sided.onnx, which does not" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("prior", ["natural", "-1", "3", "nan", ""])
def test_priors_that_are_none_are_usage_errors(model, prior):
    assert classify("--model", model, "--prior", prior).exit_code == 2


@pytest.mark.parametrize("flags", [["--margin", "3"], ["--margin", "x"], ["--labels", "a,a"]])
def test_values_that_cannot_be_read_are_usage_errors(model, flags):
    result = classify("--model", model, *flags)
    assert result.exit_code == 2
    assert f"Invalid value for '{flags[0]}'" in result.stderr


def test_messages_name_flags_in_place_of_arguments():
    command = main.commands["classify"]
    assert with_flags("see `range`; give `input_size=48`", command) == (
        "see --range; give --input-size 48"
    )
    assert with_flags("give `color=bgr` or `nothing=1`", command) == "give --color bgr or nothing=1"
    assert with_flags("`mirror=True`, `mirror=False`, `force=True`, `max_pixels`", command) == (
        "--mirror, --no-mirror, --force, --max-pixels"
    )
    assert with_flags("longer with `timeout_s`", main.commands["video"]) == "longer with --timeout"
    assert with_flags("give `color=bgr`") == "give color=bgr"


def test_options_come_from_the_environment_and_the_module_is_the_command(tmp_path):
    picture = Path(__file__).parents[1] / "data/portrait.jpg"
    done = subprocess.run(
        [sys.executable, "-m", "fer_edge", "classify", picture],
        env={**os.environ, "FER_EDGE_CLASSIFY_FORMAT": "jsonl"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["status"] == "ok"
