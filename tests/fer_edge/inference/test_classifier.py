import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fer_edge
from fer_edge import Classifier, Emotion
from fer_edge.contract import EMOTIONS, OUTPUT_NAME, ModelSpec
from fer_edge.errors import ModelError, ProviderError
from fer_edge.inference.detectors import Face, OnnxDetector, WholeFrame
from fer_edge.inference.providers import choose_providers
from fer_edge.inference.session import _warn_of_fallback
from tests.support.models import (
    level_of,
    save,
    save_brightness_model,
    save_color_model,
    save_sided_model,
)

ROOT = Path(__file__).parents[3]
COLOR_SPEC = {
    "labels": ("red", "green", "blue"),
    "color": "rgb",
    "range": (0.0, 1.0),
}


@pytest.fixture
def model(tmp_path):
    return save_brightness_model(tmp_path / "brightness.onnx")


def gray(emotion, height=60, width=60):
    return np.full((height, width, 3), level_of(emotion), np.uint8)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_answers_as_the_model_does(model, emotion):
    classify = Classifier(model, detector="none")
    (face,) = classify(gray(emotion))
    assert face.emotion == emotion
    assert face.confidence == face.probabilities[emotion] > 0.9
    assert face.top(1) == [Emotion(emotion, face.confidence)]


def test_a_face_says_where_it_is_and_how_probable_each_label_is(model):
    (face,) = Classifier(model, detector="none")(gray("sad", height=40))
    assert (face.box, face.detector_score, face.points) == ((0, 0, 60, 40), None, None)
    assert list(face.probabilities) == list(EMOTIONS)
    assert {type(value) for value in face.probabilities.values()} == {float}
    assert sum(face.probabilities.values()) == pytest.approx(1, abs=1e-5)
    ranked = [emotion.probability for emotion in face.top()]
    assert ranked == sorted(face.probabilities.values(), reverse=True)
    assert face.top(2) == face.top()[:2]


def test_faces_of_a_frame_are_told_apart(model):
    frame = np.hstack([gray("fear"), gray("neutral"), gray("angry")])
    faces = [Face((60 * index, 0, 60, 60), 0.5) for index in (2, 0, 1)]
    results = Classifier(model, detector="none").classify_faces(frame, faces)
    assert [result.emotion for result in results] == ["angry", "fear", "neutral"]
    assert [result.box for result in results] == [face.box for face in faces]
    assert results[0].detector_score == 0.5


def test_no_faces_are_an_empty_list(model):
    classify = Classifier(model)
    assert classify(gray("happy")) == []
    assert classify.classify_faces(gray("happy"), []) == []
    assert classify.probabilities(np.empty((0, 48, 48, 1), np.float32)).shape == (0, 7)


def test_grey_frames_are_taken(model):
    assert Classifier(model, detector="none")(gray("sad")[:, :, 0])[0].emotion == "sad"


def test_batches_of_any_size_give_the_same(model):
    batch = np.random.default_rng(0).uniform(0, 255, (23, 48, 48, 1)).astype(np.float32)
    whole = Classifier(model, detector="none").probabilities(batch)
    pieces = Classifier(model, detector="none", batch_size=5).probabilities(batch)
    assert whole.dtype == np.float32
    assert np.allclose(whole, pieces, atol=1e-6)


def test_many_frames_share_batches_in_order(model):
    classifier = Classifier(model, detector="none", batch_size=4)
    sizes = []
    run = classifier._run
    classifier._run = lambda batch: sizes.append(len(batch)) or run(batch)
    wanted = [EMOTIONS[index % 7] for index in range(10)]
    found = [faces[0].emotion for faces in classifier.classify_many(map(gray, wanted))]
    assert found == wanted
    assert sizes == [4, 4, 2]


def test_many_frames_are_read_only_as_needed(model):
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield gray("happy")

    results = Classifier(model, detector="none", batch_size=4, threads=2).classify_many(endless())
    assert next(results)[0].emotion == "happy"
    results.close()
    assert read <= 16


def test_swapped_channels_are_seen(tmp_path):
    model = save_color_model(tmp_path / "color.onnx")
    classify = Classifier(model, detector="none", **COLOR_SPEC)
    red_bgr = np.zeros((50, 50, 3), np.uint8)
    red_bgr[:, :, 2] = 255
    assert classify(red_bgr)[0].emotion == "red"
    assert classify(red_bgr[:, :, ::-1])[0].emotion == "blue"
    assert (
        Classifier(model, detector="none", **{**COLOR_SPEC, "color": "bgr"})(red_bgr)[0].emotion
        == "blue"
    )


def test_below_the_threshold_the_label_is_uncertain(model):
    between = np.full((9, 9, 3), (level_of("happy") + level_of("sad")) // 2, np.uint8)
    sure = Classifier(model, detector="none", uncertain=0.4)(between)[0]
    (unsure,) = Classifier(model, detector="none", uncertain=0.9)(between)
    assert sure.emotion == sure.top(1)[0].label
    assert {emotion.label for emotion in sure.top(2)} == {"happy", "sad"}
    assert unsure.emotion == "uncertain"
    assert unsure.confidence == sure.confidence < 0.9
    assert unsure.probabilities == sure.probabilities


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_the_mirror_image_is_averaged_with_the_image(tmp_path, layout):
    model = save_sided_model(tmp_path / "sided.onnx", layout=layout)
    images = np.random.default_rng(1).integers(0, 256, (5, 48, 48, 3), np.uint8)
    alone = Classifier(model, detector="none")
    both = Classifier(model, detector="none", mirror=True, batch_size=2)
    rows, mirrored = (
        np.array([list(alone(image)[0].probabilities.values()) for image in seen])
        for seen in (images, images[:, :, ::-1])
    )
    assert np.abs(rows - mirrored).max() > 0.01
    found = [list(answers[0].probabilities.values()) for answers in both.classify_many(images)]
    np.testing.assert_allclose(found, (rows + mirrored) / 2, atol=1e-6)


def test_a_face_and_its_mirror_image_share_a_batch(tmp_path):
    classifier = Classifier(
        save_sided_model(tmp_path / "sided.onnx"), detector="none", mirror=True, batch_size=6
    )
    sizes = []
    run = classifier._session.run
    session = SimpleNamespace(
        fixed_batch=None,
        run=lambda batch, names: sizes.append(len(batch)) or run(batch, names),
    )
    classifier._session = session
    classifier.probabilities(np.zeros((7, 48, 48, 1), np.float32))
    assert sizes == [6, 6, 2]


PRIOR = (0.05, 0.05, 0.1, 0.4, 0.1, 0.1, 0.2)


@pytest.fixture
def told(tmp_path):
    """A model that says how frequent each emotion was in its training."""
    metadata = ModelSpec(model="brightness", prior=PRIOR).to_metadata()
    return save_brightness_model(tmp_path / "told.onnx", metadata=metadata)


@pytest.mark.parametrize(
    ("prior", "power"), [("training", 0), ("uniform", 1), (0.5, 0.5), (0, 0), (None, 0.2)]
)
def test_answers_are_divided_by_the_prior(told, prior, power):
    frame = np.full((9, 9, 3), (level_of("happy") + level_of("sad")) // 2, np.uint8)
    (told_plainly,) = Classifier(told, detector="none", prior=0)(frame)
    plain = np.array(list(told_plainly.probabilities.values()))
    wanted = plain / np.power(PRIOR, power)
    classifier = Classifier(told, detector="none", prior=prior)
    assert classifier.prior == power
    found = list(classifier(frame)[0].probabilities.values())
    np.testing.assert_allclose(found, wanted / wanted.sum(), atol=1e-6)


def test_the_default_power_holds_for_models_with_a_prior_alone(model, told, monkeypatch):
    monkeypatch.setattr("fer_edge.contract.DEFAULT_PRIOR_POWER", 0.25)
    assert Classifier(told, detector="none").prior == 0.25
    assert Classifier(told, detector="none", prior="training").prior == 0
    assert Classifier(model, detector="none").prior == 0


def test_a_prior_that_nobody_knows_cannot_be_taken_out(model):
    for prior in ("training", "uniform", 0.5):
        with pytest.raises(ModelError, match=f"training for `prior={prior}`, received brightness"):
            Classifier(model, prior=prior)
    # Nothing is divided by a prior to the power of 0.
    assert Classifier(model, detector="none", prior=0).prior == 0
    for wrong in ("natural", -1, 3, float("nan")):
        with pytest.raises(ValueError, match="Expected training, uniform or a power"):
            Classifier(model, prior=wrong)


def test_a_toml_file_may_say_the_prior(model):
    model.with_suffix(".toml").write_text(f"prior = {list(PRIOR)}\n")
    assert Classifier(model, detector="none", prior="uniform").spec.prior == PRIOR
    model.with_suffix(".toml").write_text("prior = [0.5, 0.5]\n")
    with pytest.raises(ModelError, match="prior above 0 for each label"):
        Classifier(model, detector="none")


def test_margin_widens_the_crop(model):
    frame = np.full((90, 90, 3), 255, np.uint8)
    frame[30:60, 30:60] = level_of("angry")
    face = [Face((30, 30, 30, 30), None)]
    assert Classifier(model, detector="none").classify_faces(frame, face)[0].emotion == "angry"
    wide = Classifier(model, detector="none", margin=1.0)
    assert wide.spec.margin == 1.0
    # Eight parts of nine are white then.
    assert wide.classify_faces(frame, face)[0].emotion == "neutral"


def test_several_threads_may_share_a_classifier(model):
    classify = Classifier(model)
    portrait = np.asarray(fer_edge.read_image("tests/data/portrait.jpg"))
    frames = [portrait, gray("sad"), portrait[:, ::-1], gray("fear")]
    expected = [classify(frame) for frame in frames]
    assert expected[0] and not expected[1]
    barrier = threading.Barrier(4)

    def work(_):
        barrier.wait()
        return [classify(frame) for frame in frames for _ in range(2)]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(4)):
            assert found == [result for result in expected for _ in range(2)]


@pytest.mark.parametrize("batch", [3, 1])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_models_of_a_fixed_batch_are_filled_up(tmp_path, layout, batch):
    model = save_color_model(tmp_path / "fixed.onnx", layout=layout, batch=batch)
    classify = Classifier(model, detector="none", **COLOR_SPEC)
    assert classify.batch_size == batch
    frame = np.zeros((10, 40, 3), np.uint8)
    for index, channel in enumerate((2, 1, 0, 1)):
        frame[:, 10 * index : 10 * index + 10, channel] = 255
    faces = [Face((10 * index, 0, 10, 10), None) for index in range(4)]
    found = [result.emotion for result in classify.classify_faces(frame, faces)]
    assert found == ["red", "green", "blue", "green"]


def test_logits_become_probabilities(tmp_path):
    model = save_color_model(tmp_path / "logits.onnx", softmax=False)
    frame = np.full((10, 10, 3), 200, np.uint8)
    with pytest.raises(ModelError, match="give `outputs=logits`"):
        Classifier(model, detector="none", **COLOR_SPEC)(frame)
    classify = Classifier(model, detector="none", **COLOR_SPEC, outputs="logits")
    assert list(classify(frame)[0].probabilities.values()) == pytest.approx([1 / 3] * 3)


def test_says_what_it_is(model):
    classifier = Classifier(model, threads=1)
    assert classifier.provider == "cpu"
    assert classifier.threads == 1
    assert classifier.model_path == model
    assert classifier.digest == hashlib.sha256(model.read_bytes()).hexdigest()
    assert classifier.spec == ModelSpec(model="brightness")


def test_a_model_in_anothers_place_is_warned_of(tmp_path, monkeypatch, caplog):
    save_brightness_model(tmp_path / "mine.int8.onnx")
    monkeypatch.chdir(tmp_path)
    assert Classifier("mine.onnx", detector="none").model_path.name == "mine.int8.onnx"
    (record,) = caplog.records
    assert record.name.startswith("fer_edge.")
    assert record.getMessage() == "There is no mine.onnx here; using mine.int8.onnx in its place"


@pytest.mark.parametrize(
    "batch",
    [np.zeros((1, 48, 48, 1)), np.zeros((1, 1, 48, 48), np.float32)],
    ids=["dtype", "layout"],
)
def test_batches_that_do_not_fit_the_model_are_refused(model, batch):
    with pytest.raises(ValueError, match=r"Expected float32 \(N, 48, 48, 1\)"):
        Classifier(model, detector="none").probabilities(batch)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [(np.zeros((9, 9, 3)), "uint8"), (None, "received None, which")],
    ids=["float64", "None"],
)
def test_what_is_no_picture_is_refused(model, picture, reason):
    classifier = Classifier(model, detector="none")
    with pytest.raises(ValueError, match=reason):
        classifier(picture)
    with pytest.raises(ValueError, match=reason):
        list(classifier.classify_many([gray("sad"), picture]))


@pytest.mark.parametrize("picture", ["photo.jpg", b"bytes", gray("sad")], ids=type)
def test_one_picture_is_not_many(model, picture):
    classifier = Classifier(model, detector="none")
    with pytest.raises(ValueError, match="received one; give it to classify"):
        next(classifier.classify_many(picture))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"labels": "happy"}, "Expected another value of labels in the arguments"),
        ({"colour": "rgb"}, "received 'colour'; did you mean 'color'"),
        ({"treads": 2}, "received 'treads'; did you mean 'threads'"),
        ({"xyz": 2}, r"received 'xyz'; help\(Classifier\) lists them"),
        ({"detector": "dlib"}, "haar, yunet or none"),
        ({"provider": "gpu"}, "received 'gpu'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_of_another_kind_are_refused_by_name(model, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        Classifier(model, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"uncertain": 5},
        {"uncertain": -0.1},
        {"uncertain": float("nan")},
        {"uncertain": "0.5"},
        {"margin": -1},
        {"margin": 2.1},
        {"margin": float("inf")},
        {"detector": None},
        {"detector": WholeFrame},
        {"detector": 7},
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"threads": 0},
        {"threads": -1},
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused_when_made(model, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"^Expected\b.*\b{name}\b"):
        Classifier(model, **arguments)


def test_takes_pictures_in_every_form():
    from PIL import Image

    path = "tests/data/portrait.jpg"
    classify = Classifier(Path("exported/edge.onnx").resolve())
    (expected,) = classify(fer_edge.read_image(path))
    rgb = np.ascontiguousarray(fer_edge.read_image(path)[:, :, ::-1])
    pictures = [path, Path(path), Path(path).read_bytes(), Image.open(path)]
    for picture in pictures:
        (face,) = classify(picture)
        assert face.box == pytest.approx(expected.box, abs=2)
        assert face.confidence == pytest.approx(expected.confidence, abs=0.02)
    assert classify(rgb, rgb=True) == [expected]
    assert list(classify.classify_many([rgb, rgb], rgb=True)) == [[expected]] * 2
    assert classify.classify_faces(rgb, [Face(expected.box, 1.0)], rgb=True)[0].emotion == "happy"


def test_results_give_plain_values_and_tables(model):
    pandas = pytest.importorskip("pandas")
    classifier = Classifier(model, detector="none")
    faces = classifier(gray("sad"))
    (plain,) = faces.to_dict()
    assert plain == faces[0].to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["emotion"], plain["box"]) == ("sad", [0, 0, 60, 60])
    table = faces.to_dataframe()
    assert list(table.columns) == [
        *("face", "x", "y", "w", "h", "detector_score", "emotion", "confidence"),
        *EMOTIONS,
    ]
    assert table.loc[0, "emotion"] == "sad"
    assert table.loc[0, "sad"] == plain["confidence"]
    two = pandas.concat(
        found.to_dataframe() for found in classifier.classify_many([gray("sad")] * 2)
    )
    assert len(two) == 2
    assert len(Classifier(model)(gray("sad")).to_dataframe()) == 0


@pytest.mark.parametrize("detector", ["face", "none", OnnxDetector(min_face=40)])
def test_a_classifier_is_opened_again_where_it_is_unpickled(model, detector, tmp_path, monkeypatch):
    monkeypatch.chdir(model.parent)
    classifier = Classifier(model.name, detector=detector, uncertain=0.3, threads=1)
    portrait = fer_edge.read_image(ROOT / "tests/data/portrait.jpg")
    expected = classifier(portrait)
    monkeypatch.chdir("/")
    again = pickle.loads(pickle.dumps(classifier))
    assert again(portrait) == expected
    assert again.threads == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_ends(model):
    program = f"""
import os, sys
from fer_edge import Classifier
import numpy as np
classifiers = [Classifier({str(model)!r}, detector="none", threads=4) for _ in range(2)]
frame = np.full((9, 9, 3), 128, np.uint8)
before = [classifier(frame)[0].emotion for classifier in classifiers]
child = os.fork()
if not child:
    sys.exit([classifier(frame)[0].emotion for classifier in classifiers] != before)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=100, cwd=ROOT)
    assert done.returncode == 0


def test_many_frames_do_not_wait_for_a_full_batch(model):
    """Frames that come slowly are answered before the next one is asked for."""
    classifier = Classifier(model, detector="none", batch_size=64, threads=2)
    taken = []

    def slowly():
        for index in range(3):
            time.sleep(0.5)
            taken.append(index)
            yield gray("happy")

    answered = [(faces[0].emotion, len(taken)) for faces in classifier.classify_many(slowly())]
    assert answered == [("happy", 1), ("happy", 2), ("happy", 3)]


def test_a_provider_that_is_not_there_is_an_error(model):
    with pytest.raises(ProviderError, match=r"Expected the cuda provider.*fer-edge\[gpu\]"):
        Classifier(model, provider="cuda")


def test_auto_takes_the_best_provider_that_is_there(monkeypatch):
    there = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: there)
    assert choose_providers("auto") == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert choose_providers("cpu") == ["CPUExecutionProvider"]
    assert choose_providers("tensorrt")[0] == "TensorrtExecutionProvider"


def test_a_provider_that_fails_to_load_is_never_replaced_quietly(model, monkeypatch, caplog):
    _warn_of_fallback.cache_clear()
    # The list is made longer than what this onnxruntime can do, as with a missing CUDA library.
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: there)
    with pytest.raises(ProviderError, match="cuda provider to run, but it failed"):
        Classifier(model, provider="cuda")
    for _ in range(2):
        assert Classifier(model, provider="auto").provider == "cpu"
    assert caplog.text.count("cuda provider is installed but failed to load") == 1


def test_nan_and_infinity_are_refused(tmp_path):
    from onnx import helper

    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["mean", "nan"], [OUTPUT_NAME]),
    ]
    model = save(
        tmp_path / "nan.onnx",
        nodes,
        {"nan": np.full((1, 7), np.nan, np.float32)},
        metadata=ModelSpec().to_metadata(),
    )
    with pytest.raises(ModelError, match="infinite numbers or NaN"):
        Classifier(model, detector="none")(gray("happy"))
