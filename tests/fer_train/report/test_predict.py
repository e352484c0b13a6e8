import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from onnx import helper

from fer_edge.contract import EMOTIONS, ModelSpec
from fer_train.cli import main
from tests.support.fake_runs import make_run
from tests.support.models import save


def write_model(path: Path, labels: tuple[str, ...] = EMOTIONS) -> Path:
    """Write a model that takes a picture's mean level, in steps of 36, for its emotion."""
    levels = np.arange(7, dtype=np.float32) * 36 + 18
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Sub", ["column", "levels"], ["gap"]),
        helper.make_node("Abs", ["gap"], ["distance"]),
        helper.make_node("Neg", ["distance"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
    ]
    constants = {"levels": levels[None], "one": np.array([1])}
    metadata = ModelSpec(model="levels", labels=labels).to_metadata()
    return save(path, nodes, constants, metadata=metadata)


def picture(path: Path, emotion: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    level = EMOTIONS.index(emotion) * 36 + 18
    cv2.imwrite(str(path), np.full((30, 40), level, np.uint8))


def predict(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "levels.onnx")


@pytest.fixture
def data(tmp_path):
    for emotion in EMOTIONS:
        for number in range(2):
            picture(tmp_path / "data" / emotion / f"{number}.png", emotion)
    picture(tmp_path / "data" / "happy" / "wrong.png", "angry")
    return tmp_path / "data"


def read_rows(folder):
    return list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))


def test_each_picture_gets_an_answer_and_the_set_its_scores(model, data, tmp_path):
    out = tmp_path / "out"
    result = predict(model, "--data", data, "--detector", "none", "--output", out)
    assert result.exit_code == 0, result.output
    rows = {row["image"]: row for row in read_rows(out)}
    assert len(rows) == 15
    assert rows["sad/0.png"]["predicted"] == rows["sad/0.png"]["emotion"] == "sad"
    assert rows["happy/wrong.png"]["predicted"] == "angry"
    assert float(rows["sad/0.png"]["sad"]) > 0.99
    assert [rows["sad/0.png"][side] for side in "xywh"] == ["0", "0", "40", "30"]
    scores = json.loads((out / "metrics.json").read_text())
    assert scores["accuracy"] == pytest.approx(14 / 15)
    assert scores["confusion"][3][0] == 1
    names = sorted(path.name for path in (out / "pictures").iterdir())
    assert names == ["confusion-counts.svg", "confusion.svg", "page-001.png", "page-002.png"]
    text = (out / "predictions.md").read_text()
    assert "# data (folders) classified by levels.onnx" in text
    assert "| top-1 | 93.33% |" in text


def test_pages_can_be_few_or_none(model, data, tmp_path):
    for pages, expected in ((1, ["page-001.png"]), (0, [])):
        out = tmp_path / str(pages)
        arguments = ["--data", data, "--detector", "none", "--pages", pages, "--output", out]
        assert predict(model, *arguments).exit_code == 0
        assert sorted(path.name for path in (out / "pictures").glob("page*")) == expected
    text = (tmp_path / "1/predictions.md").read_text()
    assert "12 of 15 classified pictures, spread evenly" in text


def test_pictures_without_a_face_are_counted_not_guessed(model, data, tmp_path):
    result = predict(model, "--data", data, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert {row["status"] for row in read_rows(tmp_path / "out")} == {"no_face"}
    text = (tmp_path / "out/predictions.md").read_text()
    assert "| without a face that was found | 15 |" in text
    assert not (tmp_path / "out/metrics.json").exists()


def test_a_picture_that_cannot_be_read_is_named_and_the_others_go_on(model, data, tmp_path):
    (data / "sad" / "=broken.png").write_bytes(b"no picture")
    result = predict(model, "--data", data, "--detector", "none", "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "=broken.png: Expected" in result.stderr
    rows = read_rows(tmp_path / "out")
    assert [row["image"] for row in rows if row["status"] == "error"] == ["sad/=broken.png"]
    assert sum(row["status"] == "ok" for row in rows) == 15


def test_names_of_jaffe_are_understood_and_others_counted(model, tmp_path):
    for name, emotion in (("KA.AN1.39.tiff", "angry"), ("KA.HA2.30.tiff", "happy")):
        picture(tmp_path / "jaffe" / name, emotion)
    picture(tmp_path / "jaffe" / "cover.png", "sad")
    out = tmp_path / "out"
    arguments = ["--data", tmp_path / "jaffe", "--layout", "jaffe", "--detector", "none"]
    result = predict(model, *arguments, "--output", out)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "metrics.json").read_text())["accuracy"] == 1.0
    assert "| left out: not a name of JAFFE | 1 |" in (out / "predictions.md").read_text()


def test_a_set_of_one_emotion_gives_json_without_nan(model, tmp_path):
    picture(tmp_path / "data" / "sad" / "1.png", "sad")
    arguments = ["--data", tmp_path / "data", "--detector", "none", "--output", tmp_path / "out"]
    assert predict(model, *arguments).exit_code == 0
    assert '"auc_macro": null' in (tmp_path / "out/metrics.json").read_text()


def test_pictures_without_labels_get_answers_and_no_scores(model, tmp_path):
    picture(tmp_path / "data" / "1.png", "sad")
    out = tmp_path / "out"
    arguments = ["--data", tmp_path / "data", "--detector", "none", "--output", out]
    assert predict(model, *arguments).exit_code == 0
    (row,) = read_rows(out)
    assert (row["emotion"], row["predicted"]) == ("", "sad")
    assert not (out / "metrics.json").exists()


def test_wrong_models_are_one_clear_line(data, tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"x")
    for source in (tmp_path / "x.onnx", tmp_path / "none.onnx", data):
        result = predict(source, "--data", data, "--detector", "none")
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: Expected") and "Traceback" not in result.stderr


def test_what_is_not_in_a_run_is_refused(data, tmp_path):
    run = make_run(tmp_path / "run", ("sequential", "vgg16"), folds=2, images=70).folder
    for flags, message in (
        ((), "choose one with --model"),
        (("--model", "edge"), "Expected --model of sequential, vgg16"),
        (("--model", "vgg16", "--fold", "2"), "Expected --fold from 0 to 1, received 2"),
        (("--model", "vgg16"), "with a model.keras"),
    ):
        result = predict(run, "--data", data, *flags)
        assert result.exit_code == 1
        assert message in result.stderr


def test_flags_of_a_run_do_not_fit_a_file(model, data):
    result = predict(model, "--data", data, "--fold", "1")
    assert result.exit_code == 1
    assert "--model and --fold choose from a RUN" in result.stderr


@pytest.mark.tensorflow
def test_a_run_answers_with_the_average_of_its_folds(data, tmp_path):
    from fer_train.network._keras import keras

    run = make_run(tmp_path / "run", folds=2, images=70)
    for index, emotion in enumerate(("angry", "sad")):
        dense = keras.layers.Dense(7, "softmax")
        layers = [keras.Input((48, 48, 1)), keras.layers.GlobalAveragePooling2D(), dense]
        net = keras.Sequential(layers)
        dense.set_weights([np.zeros((1, 7)), 50.0 * np.eye(7)[EMOTIONS.index(emotion)]])
        net.save(run.fold("sequential", index).folder / "model.keras")
    arguments = ["--data", data, "--detector", "none", "--pages", 0]
    assert predict(run.folder, *arguments, "--output", tmp_path / "both").exit_code == 0
    row = read_rows(tmp_path / "both")[0]
    assert (float(row["angry"]), float(row["sad"])) == (pytest.approx(0.5), pytest.approx(0.5))
    assert predict(run.folder, *arguments, "--fold", 1, "--output", tmp_path / "one").exit_code == 0
    assert float(read_rows(tmp_path / "one")[0]["sad"]) == pytest.approx(1.0)


def test_other_names_of_the_emotions_count(tmp_path, data):
    names = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
    model = write_model(tmp_path / "other.onnx", names)
    out = tmp_path / "out"
    result = predict(model, "--data", data, "--detector", "none", "--output", out)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "metrics.json").read_text())["accuracy"] == pytest.approx(14 / 15)


def test_emotions_that_only_one_side_knows_are_told(tmp_path, data):
    names = ("angry", "contempt", "fear", "happy", "sad", "surprise", "neutral")
    model = write_model(tmp_path / "other.onnx", names)
    picture(tmp_path / "data/contempt/0.png", "disgust")
    out = tmp_path / "out"
    assert predict(model, "--data", data, "--detector", "none", "--output", out).exit_code == 0
    text = (out / "predictions.md").read_text()
    assert "| classified and of an emotion that the model knows | 14 |" in text
    assert "| of disgust, which the model does not know | 2 |" in text


def test_where_no_face_is_found_the_other_way_is_told(model, data, tmp_path):
    result = predict(model, "--data", data, "--output", tmp_path / "out")
    assert "In 15 of 15 pictures no face was found" in result.stderr
    assert "--detector none" in result.stderr


def test_a_baseline_offers_no_pictures(tmp_path, data):
    run = make_run(tmp_path / "run", ("svm",))
    result = predict(run.folder, "--data", data, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "Expected a network" in result.stderr
