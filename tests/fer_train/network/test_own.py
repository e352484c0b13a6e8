"""Models of one's own: what a person's code may be, and what is said where it is not that."""

import sys

import numpy as np
import pytest

from fer_edge.errors import DataError
from fer_train.data.form import Form
from fer_train.network._keras import keras
from fer_train.network.check import check_model
from fer_train.network.models import backbone_of, build_model, load_trained, predict
from fer_train.run.recipes import recipe_for

pytestmark = pytest.mark.tensorflow

BEGIN = "import keras\nfrom keras import layers\n"
SEQUENTIAL = """
def build(input_shape, classes):
    return keras.Sequential([
        keras.Input(input_shape), layers.Rescaling(1 / 255), layers.Conv2D(4, 3),
        layers.GlobalAveragePooling2D(), {}
    ])
"""
SOFTMAX = "layers.Dense(classes, activation='softmax')"
LAYER = """
{}
class Times(layers.Layer):
    def __init__(self, factor, **options):
        super().__init__(**options)
        self.times = factor
    def call(self, inputs):
        return inputs * self.times
    def get_config(self):
        return super().get_config() | {}
"""
REGISTER = "@keras.saving.register_keras_serializable()"
SUBCLASS = """
@keras.saving.register_keras_serializable()
class Net(keras.Model):
    def __init__(self, classes, **options):
        super().__init__(**options)
        self.classes = classes
        self.convolution = layers.Conv2D(4, 3, activation="relu")
        self.pooling = layers.GlobalAveragePooling2D()
        self.last = layers.Dense(classes, activation="softmax")
    def call(self, inputs):
        return self.last(self.pooling(self.convolution(inputs / 255)))
    def get_config(self):
        return super().get_config() | {"classes": self.classes}

def build(input_shape, classes):
    return Net(classes)
"""


def recipe(code, **settings):
    return recipe_for("modern", "net", {"model_file": "net.py:build", "code": code, **settings})


def custom(register=REGISTER, config='{"factor": self.times}'):
    return BEGIN + LAYER.format(register, config) + SEQUENTIAL.format(f"Times(2.0), {SOFTMAX}")


@pytest.mark.parametrize(
    "code",
    [
        BEGIN + SEQUENTIAL.format(SOFTMAX),
        BEGIN + SEQUENTIAL.format("layers.Dense(classes), layers.Softmax()"),
        BEGIN + SEQUENTIAL.format("layers.Dense(classes), layers.Activation('softmax')"),
        custom(),
        BEGIN + SUBCLASS,
    ],
)
def test_models_of_all_kinds_see_images_of_any_form_and_are_read_again(code, tmp_path):
    own, form = recipe(code), Form(20, "rgb")
    check_model("net", own, 5, form)
    net = build_model("net", own, 5, form)
    assert net.input_shape == (None, 20, 20, 3)
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), np.uint8)
    rows = predict(net, images)
    assert rows.sum(axis=1) == pytest.approx(1, abs=1e-5)
    net.save(tmp_path / "net.keras")
    again = load_trained(tmp_path / "net.keras", "a model", own)
    assert predict(again, images) == pytest.approx(rows, abs=1e-6)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def build(:\n", "net.py, line 1: the file raised SyntaxError"),
        ("\nimport nothing_like_it\n", "net.py, line 2: the file raised ModuleNotFoundError"),
        ("import nothing_like_it\n", "other files of yours are not found"),
        ("raise SystemExit(0)\n", "net.py, line 1: the file raised SystemExit"),
        ("x = 1\n", "Expected a function build in net.py, received none"),
        ("build = 1\n", "Expected a function build in net.py, received none"),
        (
            "def build(input_shape, classes):\n    return 1 / 0\n",
            "net.py, line 2: build raised ZeroDivisionError: division by zero",
        ),
        ("def build():\n    pass\n", "build raised TypeError"),
        (
            "def build(input_shape, classes):\n    pass\n",
            "expected build(input_shape, classes) to return a Keras model, received NoneType",
        ),
        (BEGIN + SEQUENTIAL.format("layers.Dense(8, activation='softmax')"), "received (N, 8)"),
        (BEGIN + SEQUENTIAL.format("layers.Dense(classes)"), "rows that sum to 1, received"),
        (
            BEGIN + SEQUENTIAL.format("layers.Dense(classes, activation='sigmoid')"),
            "end the model with Dense(classes, activation='softmax')",
        ),
        (
            BEGIN + SEQUENTIAL.format(SOFTMAX).replace("input_shape)", "(64, 64, 3))", 2),
            "what build returns, called on images (N, 48, 48, 1), raised ValueError",
        ),
        (
            BEGIN + SEQUENTIAL.format(f"layers.Lambda(lambda x: x * 2), {SOFTMAX}"),
            "use no Lambda layers (Requested the deserialization of a `Lambda` layer",
        ),
        (custom(register=""), "register_keras_serializable(), give them get_config"),
        (custom(config='{"factor": 1.0}'), "that predicts as before when it was saved and loaded"),
        (
            "import keras\ndef build(input_shape, classes):\n    x = keras.Input(input_shape)\n"
            "    return keras.Model(x, [x, x])\n",
            "received list",
        ),
        (
            "import keras\ndef build(input_shape, classes):\n    x = keras.Input(input_shape)\n"
            "    y = keras.layers.GlobalAveragePooling2D()(x)\n"
            "    return keras.Model(x, keras.layers.Concatenate()([y, 1 - y]))\n",
            "with weights to train, received none",
        ),
    ],
)
def test_what_is_wrong_with_code_is_said_with_its_place(code, told):
    classes = 2 if "1 - y" in code else 7
    with pytest.raises(DataError) as error:
        check_model("net", recipe(code), classes)
    assert told in error.value.message
    assert "\x1b" not in error.value.message


def test_what_code_prints_is_no_result(capsys):
    code = "print('top')\n" + BEGIN + SEQUENTIAL.format(SOFTMAX)
    build_model("net", recipe(code), 7)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "top" in captured.err


def test_softmax_keeps_its_digits_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    net = build_model("net", recipe(BEGIN + SEQUENTIAL.format(SOFTMAX)), 7)
    images = np.random.default_rng(0).integers(0, 256, (8, 48, 48), np.uint8)
    rows = predict(net, images)
    assert rows.sum(axis=1) == pytest.approx(1, abs=1e-6)


def test_the_layer_called_backbone_is_frozen_first():
    code = (
        BEGIN
        + """
def build(input_shape, classes):
    backbone = keras.Sequential([layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()], name=NAME)
    return keras.Sequential([keras.Input(input_shape), backbone, LAST])
""".replace("LAST", SOFTMAX)
    )
    frozen = {"frozen_epochs": 2, "epochs": 4}
    check_model("net", recipe(code.replace("NAME", "'backbone'"), **frozen), 7)
    net = build_model("net", recipe(code.replace("NAME", "'backbone'"), **frozen), 7)
    assert len(backbone_of(net).weights) == 2
    with pytest.raises(DataError, match="a layer called backbone, which --frozen-epochs 2 keeps"):
        check_model("net", recipe(code.replace("NAME", "'trunk'"), **frozen), 7)


def test_it_goes_on_from_a_file_of_its_own_and_of_other_classes(tmp_path):
    code = custom()
    first = build_model("net", recipe(code), 7)
    first.save(tmp_path / "net.keras")
    on = recipe(code, weights=str(tmp_path / "net.keras"))
    same, fewer = build_model("net", on, 7), build_model("net", on, 3)
    for own, other in zip(same.get_weights(), first.get_weights(), strict=True):
        assert np.array_equal(own, other)
    assert np.array_equal(fewer.get_weights()[0], first.get_weights()[0])
    assert fewer.output_shape == (None, 3)


def test_a_file_is_read_in_float32_whatever_the_precision_of_the_moment(tmp_path):
    inner = "self.inner = layers.Dense(4)\n        self.times = factor"
    code = custom().replace("self.times = factor", inner)
    code = code.replace("inputs * self.times", "inputs * self.inner(inputs)")
    build_model("net", recipe(code), 7).save(tmp_path / "net.keras")
    keras.config.set_dtype_policy("mixed_bfloat16")
    net = load_trained(tmp_path / "net.keras", "a model", recipe(code))
    assert net.output_shape == (None, 7)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_two_files_may_have_layers_of_one_name(tmp_path):
    """The layer that a saved model means is that of its own code, whatever ran since."""
    codes = [custom(), custom().replace("self.times = factor", "self.times = factor + 5")]
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8)
    answers = []
    for number, code in enumerate(codes):
        net = build_model("net", recipe(code), 7)
        net.save(tmp_path / f"{number}.keras")
        answers.append(predict(net, images))
    file = tmp_path / "0.keras"
    assert predict(load_trained(file, "a model", recipe(codes[0])), images) == pytest.approx(
        answers[0], abs=1e-6
    )
    assert "fer_train_model_net" in sys.modules
