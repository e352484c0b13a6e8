"""A model of one's own on colour pictures: planned, trained, reported, asked, exported."""

import json

import cv2
import numpy as np
import pytest

from fer_edge.contract import EMOTIONS
from fer_edge.inference.classifier import Classifier
from fer_train.data.form import Form
from fer_train.data.synthetic import draw_face
from fer_train.network._keras import keras
from fer_train.network.models import build_model, leaves
from fer_train.run.folder import PREDICTIONS, open_run, read_arrays
from fer_train.run.plan import load_run_images
from fer_train.run.recipes import recipe_for
from fer_train.train.estimate import estimate_model
from fer_train.train.fold import FoldTrainer
from tests.support.trainer import invoke

pytestmark = pytest.mark.tensorflow

NET = """
import keras
from keras import layers


@keras.saving.register_keras_serializable(package="test")
class Brighter(layers.Layer):
    def call(self, inputs):
        return inputs * 1.5


def build(input_shape, classes):
    print("never a result")
    return keras.Sequential([
        keras.Input(input_shape), layers.Rescaling(1 / 255), Brighter(),
        layers.Conv2D(8, 3, activation="relu", kernel_regularizer="l2"), layers.MaxPooling2D(2),
        layers.Conv2D(8, 3, activation="relu", activity_regularizer="l2"),
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.1), layers.Dense(classes, activation="softmax"),
    ])
"""
FORM = ("--color", "rgb", "--image-size", "32")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Colour pictures of several sizes, and what was trained on them; the code is gone since."""
    folder = tmp_path_factory.mktemp("own")
    for number in range(84):
        emotion = EMOTIONS[number % 7]
        path = folder / "pictures" / emotion / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw_face(emotion, (40, 56)[number % 2], seed=number))
    (folder / "net.py").write_text(NET)
    result = invoke(
        *("all", "--data", folder / "pictures", "--model-file", f"{folder / 'net.py'}:build"),
        *(*FORM, "--models", "net,svm", "--folds", 2, "--epochs", 2, "--batch-size", 8),
        *("--run", folder / "run", "--export-dir", folder / "exported"),
    )
    assert result.exit_code == 0, result.output
    assert "never a result" not in result.stdout
    (folder / "net.py").unlink()
    return folder


def test_the_run_and_the_exported_file_say_what_they_are_of(place):
    run = open_run(place / "run")
    assert run.protocol.form.input_shape == (32, 32, 3)
    assert (place / "run/net/net.py").read_text() == NET
    model = Classifier(place / "exported/net.onnx", detector="none")
    assert (model.spec.input_size, model.spec.color) == ((32, 32), "rgb")
    assert (model.spec.model, model.spec.labels) == ("net", EMOTIONS)
    facts = json.loads((place / "exported/net.json").read_text())
    assert facts["recipe"]["model_file"] == "net.py:build"
    assert "--color rgb --image-size 32 --epochs 2 --model-file net.py:build" in facts["command"]
    card = (place / "exported/MODELS.md").read_text()
    assert (
        f"| Architecture | `net.py:build`, SHA-256 of the file `{facts['recipe']['code']}`" in card
    )


def test_the_exported_file_answers_pictures_as_the_trained_model_did(place):
    run = open_run(place / "run")
    fold = run.fold("net", json.loads((place / "exported/net.json").read_text())["fold"])
    held = load_run_images(run).subset(fold.split.test)
    # The runtime reads the very files, whatever their size.
    model = Classifier(place / "exported/net.onnx", detector="none", mirror=False, prior=0)
    faces = [model.classify(place / "pictures" / str(name))[0] for name in held.names]
    expected = read_arrays(fold.folder / PREDICTIONS)["probabilities"]
    found = [[face.probabilities[label] for label in EMOTIONS] for face in faces]
    assert np.array(found) == pytest.approx(expected, abs=1e-4)


def test_nothing_from_elsewhere_is_needed_afterwards(place, tmp_path):
    run, exported = place / "run", tmp_path / "exported"
    asked = invoke("report", run, "--images", "--output", tmp_path / "report")
    assert asked.exit_code == 0, asked.output
    pictures = {path.name for path in (tmp_path / "report/pictures").iterdir()}
    assert {"net-layers.svg", "net-grad-cam.png", "net-errors.png"} <= pictures
    asked = invoke(
        *("predict", run, "--data", place / "pictures", "--detector", "none"),
        *("--pages", 1, "--output", tmp_path / "answers"),
    )
    assert asked.exit_code == 0, asked.output
    assert json.loads((tmp_path / "answers/metrics.json").read_text())["images"] == 84
    asked = invoke("export", run, "--export-dir", exported, "--keras", "--fold", 0)
    assert asked.exit_code == 0, asked.output
    assert (exported / "net.py").read_text() == NET
    (exported / "net.py").write_text("# mine")
    refused = invoke("export", run, "--export-dir", exported, "--keras")
    assert refused.exit_code == 1
    assert "Expected no other net.py" in refused.stderr
    (exported / "net.py").write_text(NET)
    again = ("export", exported / "net.keras", "--labels", ",".join(EMOTIONS), "--color", "rgb")
    # As in a process that has not run the code.
    keras.saving.get_custom_objects().pop("test>Brighter")
    alone = invoke(*again, "--export-dir", tmp_path / "again")
    assert alone.exit_code == 1
    assert "Brighter" in alone.stderr
    own = f"{exported / 'net.py'}:build"
    asked = invoke(*again, "--export-dir", tmp_path / "again", "--model-file", own)
    assert asked.exit_code == 0, asked.output
    compared = invoke("compare", run)
    assert compared.exit_code == 0, compared.output
    assert "net - svm" in compared.stdout


def test_a_fold_that_was_stopped_ends_as_one_that_was_not(place, tmp_path):
    class Stop(Exception):
        pass

    def stop(progress):
        if progress.row:
            raise Stop

    (tmp_path / "net.py").write_text(NET)
    planned = invoke(
        *("plan", "--data", place / "pictures", "--model-file", f"{tmp_path / 'net.py'}:build"),
        *(*FORM, "--folds", 2, "--epochs", 2, "--batch-size", 8, "--run", tmp_path / "run"),
    )
    assert planned.exit_code == 0, planned.output
    run = open_run(tmp_path / "run")
    dataset = load_run_images(run)
    with pytest.raises(Stop):
        FoldTrainer(run.fold("net", 0), dataset).train(stop)
    run = open_run(tmp_path / "run")
    scores = FoldTrainer(run.fold("net", 0), dataset).train()
    whole = open_run(place / "run").fold("net", 0).score
    for name in ("accuracy", "log_loss", "penalty"):
        assert scores[name] == pytest.approx(whole[name], abs=1e-4)
    assert scores["penalty"] > 0
    estimate = estimate_model([run.fold("net", 1)], dataset)
    assert (estimate.folds, estimate.epochs) == (1, 2)


def test_other_code_on_the_same_run_is_refused(place):
    path = place / "net.py"
    path.write_text(NET.replace("1.5", "1.6"))
    result = invoke(
        *("all", "--data", place / "pictures", "--model-file", f"{path}:build", *FORM),
        *("--folds", 2, "--epochs", 2, "--batch-size", 8, "--run", place / "run"),
    )
    path.unlink()
    assert result.exit_code == 1
    assert "the code of net in net.py:build is another" in result.stderr


def test_code_that_fails_leaves_no_run_behind(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("def build(input_shape, classes):\n    raise ValueError('too small')\n")
    for command in ("plan", "all", "tune"):
        result = invoke(
            *(command, "--data", "synthetic:70", "--model-file", f"{path}:build"),
            *("--run", tmp_path / "runs" / command),
        )
        if "Optuna is not installed" in result.stderr:
            continue
        assert result.exit_code == 1
        assert "net.py, line 2: build raised ValueError: too small" in result.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["net.py"]


@pytest.mark.parametrize("model", ["sequential", "edge", "vgg16", "resnet50"])
def test_the_models_that_are_there_take_colours_and_other_sizes(model):
    recipe = recipe_for("modern", model, {"weights": "none", "head": "gap"})
    assert build_model(model, recipe, 3, Form(40, "rgb")).input_shape == (None, 40, 40, 3)


def test_weights_of_imagenet_see_colours_in_their_own_order():
    settings = {"preprocessing": "imagenet", "weights": "none", "frozen_epochs": 0, "head": "gap"}
    recipe = recipe_for("thesis", "vgg16", settings)
    net = build_model("vgg16", recipe, 3, Form(32, "rgb"))
    scale = next(layer for layer in leaves(net) if layer.name == "scale")
    seen = keras.Model(net.get_layer("backbone").inputs[0], scale.output)
    red = np.zeros((1, 32, 32, 3), np.float32)
    red[..., 0] = 255
    blue, green, last = np.asarray(seen(red))[0, 0, 0]
    assert (blue, green, last) == pytest.approx((-103.939, -116.779, 255 - 123.68), abs=1e-3)


def test_the_support_vector_machine_predicts_them_too(place):
    assert sum(score["images"] for score in open_run(place / "run").scores("svm")) == 84
