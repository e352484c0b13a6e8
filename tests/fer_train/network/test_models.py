"""Networks: folded normalisation, weights to go on from, teachers of any ending."""

import numpy as np
import pytest

from fer_edge.errors import RunError
from fer_train.data.synthetic import synthetic_faces
from fer_train.network._keras import keras
from fer_train.network.models import build_model, fold_normalization, leaves
from fer_train.run.recipes import recipe_for
from fer_train.train.lessons import TeacherLesson, TrainingSet

pytestmark = pytest.mark.tensorflow


def test_normalisation_folds_into_the_convolutions_of_vgg16_as_published():
    recipe = recipe_for("modern", "vgg16", {"weights": "none", "head": "gap"})
    assert recipe.normalization == "batch"
    settings = {"weights": "none", "head": "gap", "normalization": "none"}
    plain = recipe_for("modern", "vgg16", settings)
    # In float64 only the folding can make a difference, not float32's rounding in 16 layers.
    keras.config.set_dtype_policy("float64")
    normalized, published = build_model("vgg16", recipe, 7), build_model("vgg16", plain, 7)
    rng = np.random.default_rng(0)
    for layer in leaves(normalized):
        if isinstance(layer, keras.layers.BatchNormalization):
            width = layer.gamma.shape[0]
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, width),
                    rng.normal(0, 0.1, width),
                    rng.normal(0, 0.1, width),
                    rng.uniform(0.5, 2, width),
                ]
            )
    fold_normalization(normalized, published)
    images, _ = synthetic_faces(4)
    answers = [np.asarray(net(images, training=False)) for net in (normalized, published)]
    assert answers[0].std(axis=0).max() > 1e-4, "answers must depend on the image"
    assert np.abs(answers[0] - answers[1]).max() < 1e-6
    theirs = keras.applications.VGG16(include_top=False, weights=None, input_shape=(48, 48, 3))
    kinds = [type(layer).__name__ for layer in leaves(published.get_layer("backbone"))]
    assert [kind for kind in kinds if kind in ("Conv2D", "MaxPooling2D")] == [
        type(layer).__name__ for layer in theirs.layers[1:]
    ]
    assert "BatchNormalization" not in kinds


def test_a_model_goes_on_only_from_one_that_scales_its_images_alike(tmp_path):
    file = str(tmp_path / "edge.keras")
    build_model("edge", recipe_for("modern", "edge"), 7).save(file)
    same = recipe_for("modern", "edge", {"weights": file})
    one, saved = build_model("edge", same, 7), keras.saving.load_model(file, compile=False)
    for weights, kept in zip(one.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, kept)
    other = recipe_for("modern", "edge", {"weights": file, "preprocessing": "unit"})
    with pytest.raises(RunError, match=r"to scale its images as --preprocessing asks"):
        build_model("edge", other, 7)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "float32"])
def test_a_teacher_that_ends_in_a_dense_softmax_teaches(tmp_path, precision):
    teacher = keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(7, activation="softmax"),
        ]
    )
    teacher.save(tmp_path / "teacher.keras")
    images, labels = synthetic_faces(28)
    truth = np.eye(7, dtype=np.float32)[labels]
    settings = {"precision": precision, "teacher_weight": 0.5, "augmentation": 0.0, "head": "gap"}
    recipe = recipe_for("modern", "edge", settings)
    data = TrainingSet(images[..., None], truth, truth, np.arange(28), 0, 0, tuple("abcdefg"))
    lesson = TeacherLesson(recipe, data, tmp_path / "teacher.keras")
    keras.config.set_dtype_policy(precision)
    try:
        trained = lesson.network(build_model("edge", recipe, 7))
        trained.compile("sgd", "categorical_crossentropy", loss_weights=[lesson.loss_weight])
        epoch = lesson.epoch_data(0)
        fitted = trained.fit(epoch.inputs, epoch.targets, epochs=1, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(fitted.history["loss"]).all()
    assert len(lesson.prior()) == 7


def test_a_model_of_other_classes_gives_all_but_its_last_layer(tmp_path, caplog):
    recipe = recipe_for("modern", "edge", {"epochs": 1})
    trained = build_model("edge", recipe, 7)
    path = tmp_path / "seven.keras"
    trained.save(path)
    recipe = recipe_for("modern", "edge", {"weights": str(path)})
    with caplog.at_level("WARNING"):
        net = build_model("edge", recipe, 3, fused=True)
    assert net.output_shape == (None, 3)
    assert "tells 7 classes apart, not 3: its last layer is left out" in caplog.text
    weights = {weight.path: weight.numpy() for weight in net.weights}
    logits = [name for name in weights if "logits" in name]
    assert len(logits) == 2
    same = [weight.numpy() for name, weight in zip(weights, trained.weights, strict=True)]
    for (name, own), other in zip(weights.items(), same, strict=True):
        if name not in logits:
            np.testing.assert_array_equal(own, other)
    caplog.clear()
    build_model("edge", recipe, 7)
    assert not caplog.text
    # Another kind of model is no start, whatever its classes.
    with pytest.raises(RunError, match="Keras file of a sequential model to go on from"):
        build_model("sequential", recipe_for("modern", "sequential", {"weights": str(path)}), 3)
