"""Data of other classes than the seven emotions, from the plan to the exported file."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest

from fer_edge.contract import EMOTIONS
from fer_edge.inference.classifier import Classifier
from fer_train.data.synthetic import synthetic_faces
from fer_train.export.facts import folder_facts, training_facts
from fer_train.run.folder import open_run
from tests.support.trainer import invoke

pytestmark = pytest.mark.tensorflow

RAFDB = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """Drawn faces in folders 1 to 7, as RAF-DB numbers them, and some of 8 beside."""
    folder = tmp_path_factory.mktemp("numbered")
    images, labels = synthetic_faces(126)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = str(RAFDB.index(EMOTIONS[label]) + 1) if number % 20 else "8"
        path = folder / name / f"{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return folder


EXPECTED = (*(name for name in EMOTIONS if name != "disgust"), "contempt")
MAPPED = ("--folds", "2", "--labels-map", "rafdb,8=contempt", "--drop", "disgust")


@dataclass
class Mapped:
    """A run of mapped classes, its export, and what the command printed."""

    run: Path
    exported: Path
    common: tuple[object, ...]
    printed: str


@pytest.fixture(scope="module")
def mapped(numbered, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mapped")
    run, exported = folder / "run", folder / "exported"
    common = ("--data", numbered, "--models", "edge", "--run", run, "--epochs", "1")
    result = invoke("all", *common, *MAPPED, "--export-dir", exported)
    assert result.exit_code == 0, result.output
    return Mapped(run, exported, common, result.stdout)


def test_classes_follow_from_the_map_to_the_exported_file(mapped):
    assert open_run(mapped.run).protocol.labels == EXPECTED
    model = Classifier(mapped.exported / "edge.onnx", detector="none")
    assert model.spec.labels == EXPECTED
    assert f"{mapped.exported / 'edge.onnx'}: top-1" in mapped.printed
    assert folder_facts(mapped.run, "edge")["labels"] == EXPECTED


def test_the_command_of_a_mapped_run_says_its_map(mapped):
    command = training_facts(open_run(mapped.run).fold("edge", 0))["command"]
    assert "--labels-map 1=surprise,2=fear," in command
    assert command.endswith("8=contempt --drop disgust --folds 2 --epochs 1")


def test_the_same_map_goes_on_and_another_is_another_run(mapped):
    again = invoke("all", *mapped.common, *MAPPED, "--export-dir", mapped.exported)
    assert again.exit_code == 0, again.output
    other = ("--folds", "2", "--labels-map", "rafdb,8=", "--drop", "disgust")
    refused = invoke("plan", *mapped.common, *other)
    assert refused.exit_code == 1
    assert "holds a run of other settings (labels_map" in refused.stderr


def test_the_report_names_mapped_classes(mapped, tmp_path):
    result = invoke("report", mapped.run, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert "contempt" in (tmp_path / "report.md").read_text()


def test_pictures_of_a_class_that_a_model_lacks_are_not_scored(mapped, numbered, tmp_path):
    result = invoke(
        *("predict", mapped.exported / "edge.onnx", "--data", numbered, "--detector", "none"),
        *("--labels-map", "rafdb,8=contempt", "--output", tmp_path, "--pages", "0"),
    )
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "metrics.json").read_text())
    assert scores["images"] == 126 - 17
    assert scores["support"][-1] == 7


def test_fewer_and_merged_classes_of_a_run(tmp_path):
    run = tmp_path / "run"
    labels_map = "happy=good,surprise=good,sad=bad,angry=bad,fear=bad"
    result = invoke(
        *("all", "--data", "synthetic:210", "--models", "svm", "--folds", "2", "--no-export"),
        *("--run", str(run), "--classes", "good,bad", "--labels-map", labels_map),
    )
    assert result.exit_code == 0, result.output
    assert "left out, being of no class: 30 of disgust, 30 of neutral" in result.stderr
    for score in open_run(run).scores("svm"):
        assert len(score["recall"]) == 2
        assert score["accuracy"] > 0.6
    result = invoke("report", str(run), "--output", str(tmp_path / "report"))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--classes", "happy,happiness"), 2, "Expected classes that differ"),
        (("--classes", "happy"), 2, "at least two classes, received happy"),
        (("--labels-map", "raf"), 2, "a data set (fer2013, rafdb"),
        (("--drop", "contempt"), 2, "classes to drop among angry"),
        (("--classes", "happy,sad,contempt"), 1, "received none of contempt"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(tmp_path, flags, code, message):
    result = invoke("plan", "--data", "synthetic:70", *flags, "--run", str(tmp_path / "run"))
    assert result.exit_code == code
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_explore_reads_by_the_map_too(numbered, tmp_path):
    output = ("--output", str(tmp_path / "explore"))
    result = invoke("explore", "--data", str(numbered), *output)
    assert result.exit_code == 1
    assert "lies in folder '1'" in result.stderr
    result = invoke("explore", "--data", str(numbered), "--labels-map", "rafdb,8=", *output)
    assert result.exit_code == 0, result.output
    assert "left out, being of no class: 7 of 8" in result.stderr
    summary = json.loads((tmp_path / "explore" / "summary.json").read_text())
    assert summary["emotions"]["surprise"] == 17
