"""Models as other people export them; tests/data/SOURCES.md says what each file is."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from fer_edge import Classifier
from fer_edge.cli import main
from fer_edge.contract import EMOTIONS
from fer_edge.errors import ModelError
from fer_edge.inference.presets import PRESETS

FOLDER = Path("tests/data/foreign_models")
SEEN = {"labels": EMOTIONS, "color": "rgb", "range": (0.0, 1.0), "outputs": "logits"}
# One level in each channel: each of these models answers to the channels' means.
FRAME = np.full((20, 20, 3), (30, 90, 200), np.uint8)
RGB = np.array([200, 90, 30], np.float64)


def expected(name, means):
    """Return what the model's one product gives for the channels' means, in plain numpy."""
    path = FOLDER / name
    weights = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    kernel, bias = (numpy_helper.to_array(weights[key]).astype(np.float64) for key in "WB")
    return means @ kernel + bias


def softmax(logits):
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def answer(classify, frame=FRAME):
    (face,) = classify(frame)
    return face


_NEW = pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 23),
    reason="needs an onnxruntime that knows opset 23",
)


@pytest.mark.parametrize(
    "name", ["external", "squeezed", pytest.param("opset23_ir11", marks=_NEW), "fp16_in"]
)
def test_weights_beside_squeezed_outputs_new_formats_and_half_inputs(name):
    face = answer(Classifier(FOLDER / f"{name}.onnx", detector="none", **SEEN))
    wanted = softmax(expected(f"{name}.onnx", RGB / 255))
    assert list(face.probabilities.values()) == pytest.approx(wanted.tolist(), abs=1e-3)


def test_a_model_of_batch_1_without_a_batch_dimension_takes_many_faces():
    classify = Classifier(FOLDER / "squeezed.onnx", detector="none", **SEEN)
    frames = [FRAME, np.zeros_like(FRAME), FRAME[:, :, ::-1]]
    found = [faces[0].probabilities for faces in classify.classify_many(frames)]
    for row, means in zip(found, (RGB, 0 * RGB, RGB[::-1]), strict=True):
        wanted = softmax(expected("squeezed.onnx", means / 255))
        assert list(row.values()) == pytest.approx(wanted.tolist(), abs=1e-4)


def test_what_ultralytics_writes_describes_a_model():
    classify = Classifier(FOLDER / "ultralytics_cls.onnx", detector="none")
    assert classify.spec.labels[:3] == ("Anger", "Contempt", "Disgust")
    assert (classify.spec.color, classify.spec.range) == ("rgb", (0.0, 1.0))
    wanted = softmax(expected("ultralytics_cls.onnx", RGB / 255))
    assert list(answer(classify).probabilities.values()) == pytest.approx(wanted.tolist(), abs=1e-4)


IMAGENET = (RGB / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
GRAY = np.array([0.299 * 200 + 0.587 * 90 + 0.114 * 30])


@pytest.mark.parametrize(
    ("preset", "file", "means", "best"),
    [
        ("ferplus", "ferplus_like.onnx", GRAY.round(), "fear"),
        ("emotiefflib-8", "enet_b0_8.onnx", IMAGENET, "surprise"),
        ("emotiefflib-8-va", "enet_b0_8_va_mtl.onnx", IMAGENET, "contempt"),
        ("emotiefflib-7", "external.onnx", IMAGENET, "surprise"),
    ],
)
def test_presets_feed_a_model_of_the_same_shape_as_its_makers_do(preset, file, means, best):
    classify = Classifier(FOLDER / file, preset=preset, detector="none")
    face = answer(classify)
    raw = expected(file, means)
    labels = len(classify.spec.labels)
    wanted = softmax(raw[:labels])
    assert list(face.probabilities.values()) == pytest.approx(wanted.tolist(), abs=1e-4)
    assert face.emotion == best
    # Numbers beside the labels never go through a softmax.
    assert list(face.affect.values()) == pytest.approx(raw[labels:].tolist(), abs=1e-4)


def save(path, outputs, *, size=8, input_type=TensorProto.FLOAT, width=3, input_shape=None):
    """Write a model that answers with its channels' means, in outputs of (name, columns, shape)."""
    kind = {TensorProto.UINT8: TensorProto.FLOAT}.get(input_type, input_type)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["levels"], to=kind),
        helper.make_node("ReduceMean", ["levels"], ["means"], axes=[2, 3], keepdims=0),
    ]
    weights, shown = [], []
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for name, columns, shape in outputs:
        kernel = np.zeros((width, len(columns)), dtype)
        for index, channel in enumerate(columns):
            kernel[channel, index] = 1
        target = np.array([1 if side == "N" else side for side in shape], np.int64)
        target[0] = -1
        weights += [
            numpy_helper.from_array(kernel, f"{name}_w"),
            numpy_helper.from_array(target, f"{name}_s"),
        ]
        nodes += [
            helper.make_node("MatMul", ["means", f"{name}_w"], [f"{name}_m"]),
            helper.make_node("Reshape", [f"{name}_m", f"{name}_s"], [name]),
        ]
        shown.append(helper.make_tensor_value_info(name, kind, shape))
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(
                "pixels", input_type, input_shape or ["N", width, size, size]
            )
        ],
        shown,
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


# Means of 200/255, 90/255 and 30/255 as logits: hardly apart, but in this order.
RGB_SEEN = {"labels": ("r", "g", "b"), "color": "rgb", "range": (0.0, 1.0), "outputs": "logits"}
SHARES = softmax(RGB / 255)


@pytest.mark.parametrize(
    "outputs",
    [
        [("y", (0, 1, 2), ("N", 3, 1, 1))],
        [("y", (0, 1, 2), ("N", 1, 3))],
        [("features", (0, 0, 0, 0, 1), ("N", 5)), ("y", (0, 1, 2), ("N", 3))],
        [("y", (0, 1, 2), ("N", 3)), ("features", (0, 0, 0, 0, 1), ("N", 5, 1, 1))],
    ],
    ids=["(N, 3, 1, 1)", "(N, 1, 3)", "features first", "features last"],
)
def test_the_output_is_chosen_by_its_shape(tmp_path, outputs):
    classify = Classifier(save(tmp_path / "m.onnx", outputs), detector="none", **RGB_SEEN)
    assert list(answer(classify).probabilities.values()) == pytest.approx(SHARES.tolist(), abs=1e-5)


def test_of_outputs_alike_one_is_chosen_by_name(tmp_path):
    outputs = [("one", (2, 1, 0), ("N", 3)), ("two", (0, 1, 2), ("N", 3))]
    path = save(tmp_path / "m.onnx", outputs)
    with pytest.raises(ModelError, match="received one, two; choose it with `output_name=one`"):
        Classifier(path, detector="none", **RGB_SEEN)
    with pytest.raises(ModelError, match=r"named three of numbers in m\.onnx, received one float"):
        Classifier(path, detector="none", output_name="three", **RGB_SEEN)
    for name, wanted in (("one", "b"), ("two", "r")):
        assert (
            answer(Classifier(path, detector="none", output_name=name, **RGB_SEEN)).emotion
            == wanted
        )


@pytest.mark.parametrize(
    ("outputs", "description"),
    [
        ([("y", (0, 1, 2, 0, 2), ("N", 5))], {"affect": ("valence", "arousal")}),
        (
            [("y", (0, 1, 2), ("N", 3)), ("va", (0, 2), ("N", 2))],
            {"affect": ("valence", "arousal")},
        ),
        (
            [("arousal", (2,), ("N",)), ("y", (0, 1, 2), ("N", 3)), ("valence", (0,), ("N", 1))],
            {"affect": ("valence", "arousal")},
        ),
        # Outputs of those names are known for what they are, and so are labels at the end.
        (
            [("valence", (0,), ("N", 1)), ("y", (0, 1, 2), ("N", 3)), ("arousal", (2,), ("N", 1))],
            {},
        ),
        ([("y", (0, 1, 2, 0, 2), ("N", 5))], {"labels": ("r", "g", "b", "valence", "arousal")}),
    ],
)
@pytest.mark.parametrize("mirror", [False, True])
def test_affect_is_reported_as_numbers_of_its_own(tmp_path, outputs, description, mirror):
    path = save(tmp_path / "m.onnx", outputs)
    classify = Classifier(path, detector="none", mirror=mirror, **{**RGB_SEEN, **description})
    face = answer(classify)
    assert list(face.probabilities.values()) == pytest.approx(SHARES.tolist(), abs=1e-5)
    assert face.affect == pytest.approx({"valence": 200 / 255, "arousal": 30 / 255}, abs=1e-5)
    batch = classify.prepare(FRAME, classify.detector.detect(FRAME))
    assert classify.probabilities(batch).shape == (1, 3)
    assert classify.predict(batch).shape == (1, 5)


def test_columns_that_nobody_has_named_are_told_of(tmp_path):
    path = save(tmp_path / "m.onnx", [("y", (0, 1, 2, 0, 2), ("N", 5))])
    with pytest.raises(ModelError, match="give `affect=valence,arousal`"):
        Classifier(path, detector="none", **RGB_SEEN)
    path = save(tmp_path / "m.onnx", [("y", (0, 1, 2), ("N", 3))])
    with pytest.raises(ModelError, match=r"Expected valence in the last columns of y of m\.onnx"):
        Classifier(path, detector="none", affect=("valence",), **RGB_SEEN)


def test_whole_levels_are_given_to_a_model_that_takes_them(tmp_path):
    outputs = [("y", (0, 1, 2), ("N", 3))]
    path = save(tmp_path / "m.onnx", outputs, input_type=TensorProto.UINT8)
    seen = {"labels": ("r", "g", "b"), "color": "bgr", "outputs": "logits"}
    classify = Classifier(path, detector="none", **seen)
    assert classify.spec.range == (0.0, 255.0)
    assert list(answer(classify).probabilities.values()) == pytest.approx(
        softmax(RGB[::-1]).tolist(), abs=1e-5
    )
    with pytest.raises(ModelError, match="takes whole levels"):
        Classifier(path, detector="none", range=(0, 1), **seen)


def test_double_precision_is_taken(tmp_path):
    path = save(tmp_path / "m.onnx", [("y", (0, 1, 2), ("N", 3))], input_type=TensorProto.DOUBLE)
    found = answer(Classifier(path, detector="none", **RGB_SEEN))
    assert list(found.probabilities.values()) == pytest.approx(SHARES.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    "metadata",
    [
        {"names": "{0: 'r', 1: 'g', 2: 'b'}"},
        {"names": "['r', 'g', 'b']"},
        {"id2label": '{"1": "g", "0": "r", "2": "b"}'},
        {"classes": "r, g, b"},
        {"labels": '["r", "g", "b"]'},
    ],
)
def test_names_are_read_from_metadata(tmp_path, metadata):
    path = save(tmp_path / "m.onnx", [("y", (0, 1, 2), ("N", 3))])
    model = onnx.load(path)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    seen = {key: value for key, value in RGB_SEEN.items() if key != "labels"}
    assert Classifier(path, detector="none", **seen).spec.labels == ("r", "g", "b")
    given = Classifier(path, detector="none", **{**seen, "labels": ("x", "y", "z")})
    assert given.spec.labels == ("x", "y", "z")


@pytest.mark.parametrize(
    "text",
    ["(" * 5000, "{0: 'r', 2: 'b'}", "{'a': 'r'}", "7", "{0: 1}", "x" * 70_000, "__import__"],
)
def test_metadata_that_are_no_names_are_left_alone(tmp_path, text):
    path = save(tmp_path / "m.onnx", [("y", (0, 1, 2), ("N", 3))])
    model = onnx.load(path)
    helper.set_model_props(model, {"names": text})
    onnx.save(model, path)
    with pytest.raises(ModelError, match="describe it with `labels="):
        Classifier(path, detector="none", color="rgb", range=(0, 1))


def test_what_hugging_face_writes_beside_a_file_describes_it(tmp_path):
    path = save(tmp_path / "model.onnx", [("logits", (0, 1, 2), ("N", 3))])
    names = {"0": "r", "1": "g", "2": "b"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
    seen = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    seen |= {"do_rescale": True, "rescale_factor": 1 / 255, "size": {"height": 8, "width": 8}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(seen))
    classify = Classifier(path, detector="none")
    wanted = softmax((RGB / 255 - 0.5) / 0.25)
    assert answer(classify).probabilities == pytest.approx(
        dict(zip("rgb", wanted.tolist(), strict=True)), abs=1e-5
    )


def test_a_second_softmax_is_warned_of(caplog):
    description = {**SEEN, "range": (0.0, 255.0), "outputs": "logits"}
    Classifier(FOLDER / "softmax_rgb.onnx", detector="none", **description)
    assert "a second softmax makes all classes alike; give `outputs=probabilities`" in caplog.text
    caplog.clear()
    Classifier(
        FOLDER / "softmax_rgb.onnx", detector="none", **{**description, "outputs": "probabilities"}
    )
    assert caplog.text == ""


def steep(path, factor):
    """Write a model of three classes by brightness, of which the factor says what it expects."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
    ]
    # With levels from 0 to 1 the logits' differences go from -2 to 3.
    kernel = np.array([[-3, 1, 2]], np.float32) * factor
    weights = [
        numpy_helper.from_array(kernel, "w"),
        numpy_helper.from_array(np.array([0.7, -0.2, -0.9], np.float32), "b"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 8, 8, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("factor", "span", "advice"),
    [
        (1.0, (0, 1), None),
        (1.0, (-1, 1), None),
        (1 / 255, (0, 255), None),
        (1 / 255, (0, 1), "`range=0,1` does not seem to fit; try `range=0,255`"),
        (1.0, (0, 255), "`range=0,255` does not seem to fit; try `range=0,1`"),
    ],
)
def test_a_range_that_does_not_fit_the_answers_is_warned_of(tmp_path, caplog, factor, span, advice):
    path = steep(tmp_path / "m.onnx", factor)
    described = {"labels": ("a", "b", "c"), "range": span, "outputs": "logits"}
    Classifier(path, detector="none", **described)
    if advice is None:
        assert caplog.text == ""
    else:
        assert advice in caplog.text


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_line_says_flags_where_the_library_says_arguments(tmp_path):
    shutil.copy(FOLDER / "softmax_rgb.onnx", tmp_path)
    model = tmp_path / "softmax_rgb.onnx"
    flags = ["--labels", ",".join(EMOTIONS), "--color", "rgb", "--range", "0,255"]
    picture = ["classify", "tests/data/portrait.jpg", "--detector", "none", "--model", model]
    result = run(*picture, *flags, "--outputs", "logits")
    assert result.exit_code == 0
    assert "give --outputs probabilities" in result.stderr
    result = run(*picture)
    assert result.exit_code == 1
    assert "describe it with --labels NAME,NAME,..., --color gray|rgb|bgr" in result.stderr
    assert "`" not in result.stderr


def run_preset(preset, *arguments):
    model = FOLDER / "enet_b0_8_va_mtl.onnx"
    picture = ["classify", "tests/data/portrait.jpg", "--detector", "none", "--model", model]
    return run(*picture, "--preset", preset, *arguments)


def test_a_preset_gives_probabilities_and_affect():
    result = run_preset("emotiefflib-8-va", "--format", "jsonl")
    assert result.exit_code == 0, result.output
    (face,) = json.loads(result.stdout)["faces"]
    assert list(face["affect"]) == ["valence", "arousal"]
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert len(face["probabilities"]) == 8


def test_affect_has_columns_of_its_own_and_is_shown():
    header = run_preset("emotiefflib-8-va", "--format", "csv").stdout.splitlines()[0]
    assert header.endswith("surprise,valence,arousal")
    assert ", valence +" in run_preset("emotiefflib-8-va").stdout


def test_a_preset_of_another_model_is_refused():
    result = run_preset("ferplus")
    assert result.exit_code == 1
    assert "batches of (1, 64, 64)" in result.stderr


def test_a_preset_that_nobody_knows_is_refused():
    assert run_preset("nothing").exit_code == 2
    with pytest.raises(ValueError, match="as preset, received 'nothing'"):
        Classifier(FOLDER / "enet_b0_8.onnx", preset="nothing")


@pytest.mark.parametrize(
    ("file", "preset"),
    [
        ("ferplus_like", "ferplus"),
        ("enet_b0_8", "emotiefflib-8"),
        ("enet_b0_8_va_mtl", "emotiefflib-8-va"),
        ("external", "emotiefflib-7"),
    ],
)
def test_info_names_the_presets_that_fit(file, preset):
    result = run("info", FOLDER / f"{file}.onnx", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["presets"] == [preset]
    assert "--outputs logits" in facts["try"]
    assert facts["data_files"] == ({"external.onnx.data": 112} if file == "external" else {})


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_presets_say_where_they_are_from(preset):
    assert preset.source.startswith("https://")
    assert {Path(file).suffix for file in preset.files} == {".onnx"}
    assert {"labels", "input_size", "layout", "color", "range"} <= preset.description.keys()
