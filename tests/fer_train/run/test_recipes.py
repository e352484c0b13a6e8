import pytest

from fer_edge.errors import DataError
from fer_train.run.recipes import Protocol, Recipe, read_overrides, recipe_for


@pytest.mark.parametrize(
    ("model", "epochs", "optimizer", "frozen"),
    [("sequential", 50, "adam", 0), ("vgg16", 20, "sgd", 20), ("resnet50", 20, "adam", 20)],
)
def test_the_thesis_recipe_is_the_published_protocol(model, epochs, optimizer, frozen):
    recipe = recipe_for("thesis", model)
    assert (recipe.epochs, recipe.optimizer, recipe.frozen_epochs) == (epochs, optimizer, frozen)
    assert (recipe.batch_size, recipe.preprocessing, recipe.patience) == (32, "unit", 20)
    assert recipe.augmentation == recipe.label_smoothing == recipe.weight_decay == 0


def test_fewer_epochs_keep_the_share_of_the_frozen_stage():
    assert recipe_for("thesis", "vgg16", {"epochs": 3}).frozen_epochs == 3
    assert recipe_for("modern", "vgg16", {"epochs": 12}).frozen_epochs == 1


def test_without_pretrained_weights_nothing_is_frozen():
    recipe = recipe_for("modern", "resnet50", {"weights": "none"})
    assert (recipe.frozen_epochs, recipe.preprocessing) == (0, "symmetric")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epochs": 0}, "Expected epochs of 1 or more, received 0"),
        ({"learning_rate": -1.0}, "Expected learning_rate"),
        ({"optimizer": "lion"}, "adam or sgd or adamw, received 'lion'"),
        ({"colour": 1}, "received colour"),
        ({"frozen_epochs": 99}, "0 to 60"),
    ],
)
def test_bad_settings_name_what_is_allowed(overrides, message):
    with pytest.raises(DataError, match=message):
        recipe_for("modern", "sequential", overrides)


def test_settings_of_a_toml_file_are_common_or_of_one_model(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text("epochs = 9\n[vgg16]\nlearning_rate = 0.5\n")
    assert read_overrides(path, "sequential") == {"epochs": 9}
    assert read_overrides(path, "vgg16") == {"epochs": 9, "learning_rate": 0.5}
    path.write_text("epochs = ")
    with pytest.raises(DataError, match=r"settings\.toml"):
        read_overrides(path, "vgg16")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('epochs = "5"', "Expected epochs of a whole number, received '5'"),
        ("epochs = 2.5", "Expected epochs of a whole number"),
        ("epochs = true", "Expected epochs of a whole number"),
        ("learning_rate = nan", "Expected learning_rate of a number"),
        ("weights = 3", "Expected weights of text"),
        ('data = "x.csv"', "received data"),
        ("[edgee]\nepochs = 3", "received edgee"),
        ("[edge]\nfolds = 3", r"\[edge\] of .*received folds"),
    ],
)
def test_what_is_no_setting_in_a_toml_file_is_refused(tmp_path, text, message):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        recipe_for("modern", "edge", read_overrides(path, "edge"))


def test_a_toml_file_may_leave_emotions_out(tmp_path):
    path = tmp_path / "settings.toml"
    path.write_text('drop = ["disgust"]\n')
    assert Protocol("synthetic", **read_overrides(path, "")).drop == ("disgust",)
    for drop in ("disgust", 3):
        with pytest.raises(DataError, match="Expected drop of a list of emotions"):
            Protocol("synthetic", drop=drop)


def test_a_dropped_emotion_leaves_the_others_in_order():
    protocol = Protocol("synthetic", drop=("disgust",))
    assert protocol.labels == ("angry", "fear", "happy", "sad", "surprise", "neutral")
    with pytest.raises(DataError, match="received joy"):
        Protocol("synthetic", drop=("joy",))


def test_the_defaults_of_a_recipe_are_valid():
    assert Recipe() == recipe_for("modern", "edge")


@pytest.mark.parametrize(
    ("recipe", "model", "overrides"),
    [
        ("thesis", "vgg16", {"weights": "none"}),
        ("thesis", "resnet50", {"weights": "none", "epochs": 5}),
        ("modern", "vgg16", {"weights": "none", "frozen_epochs": 2}),
        ("modern", "edge", {"frozen_epochs": 2}),
    ],
)
def test_no_head_learns_from_random_features(recipe, model, overrides):
    with pytest.raises(DataError, match=r"Expected trained weights.*--frozen-epochs 0"):
        recipe_for(recipe, model, overrides)


def test_a_backbone_from_scratch_trains_under_the_thesis_recipe_too():
    recipe = recipe_for("thesis", "vgg16", {"weights": "none", "frozen_epochs": 0})
    assert (recipe.frozen_epochs, recipe.optimizer) == (0, "sgd")


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_suits_all_random_generators(seed):
    with pytest.raises(DataError, match="seed from 0 to 4294967295"):
        Protocol("synthetic", seed=seed)


@pytest.mark.parametrize(("model", "weights"), [("edge", "none"), ("vgg16", "imagenet")])
def test_a_recipe_names_only_weights_that_exist(model, weights):
    assert recipe_for("modern", model).weights == weights


def test_vgg16_from_scratch_is_normalised_unless_somebody_says_otherwise():
    assert recipe_for("modern", "vgg16", {"weights": "none"}).normalization == "batch"
    assert recipe_for("modern", "vgg16").normalization == "none"
    assert recipe_for("modern", "resnet50", {"weights": "none"}).normalization == "none"
    none = {"weights": "none", "normalization": "none"}
    assert recipe_for("modern", "vgg16", none).normalization == "none"
    for model, weights in (("vgg16", "imagenet"), ("edge", "none"), ("vgg16", "a.keras")):
        with pytest.raises(DataError, match="Expected normalization of none but for vgg16"):
            recipe_for("modern", model, {"weights": weights, "normalization": "batch"})


@pytest.mark.parametrize("model", ["vgg16", "resnet50"])
def test_all_of_a_model_that_goes_on_is_trained_as_it_was(model):
    recipe = recipe_for("modern", model, {"weights": "begun.keras", "epochs": 30})
    assert (recipe.frozen_epochs, recipe.preprocessing) == (0, "symmetric")
    backbone = recipe_for("modern", model, {"weights": "backbone.h5"})
    assert (backbone.frozen_epochs, backbone.preprocessing) == (5, "imagenet")
