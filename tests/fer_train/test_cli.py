"""What the commands of fer-train say of their settings."""

import pytest

from fer_train.run.recipes import KERAS_MODELS, read_overrides, recipe_for
from tests.support.trainer import invoke


@pytest.mark.parametrize("recipe", ["modern", "thesis"])
def test_settings_are_what_config_takes(tmp_path, recipe):
    result = invoke("settings", "--recipe", recipe, "--model", ",".join(KERAS_MODELS))
    assert result.exit_code == 0, result.output
    path = tmp_path / "settings.toml"
    path.write_text(result.output)
    shared = read_overrides(path, "")
    for model in KERAS_MODELS:
        own = {
            key: value for key, value in read_overrides(path, model).items() if key not in shared
        }
        assert recipe_for(recipe, model, own) == recipe_for(recipe, model)
    assert shared["grouping"] == ("duplicates" if recipe == "modern" else "none")


def test_settings_from_scratch_differ():
    text = invoke("settings", "--model", "vgg16", "--weights", "none").output
    assert 'preprocessing = "symmetric"' in text
    assert "frozen_epochs = 0\n" in text


def test_help_says_defaults_by_recipe_and_model():
    text = " ".join(invoke("all", "--help").output.split())
    assert "[default: modern 60; thesis 20 to 50, by model]" in text
    assert "[default: modern duplicates; thesis none]" in text
    assert "Data and folds: --data" in text


@pytest.mark.parametrize("flag", ["--teacher-weight", "--views"])
def test_what_a_command_refuses_it_does_not_offer(flag):
    assert flag not in invoke("all", "--help").output
    assert flag in invoke("distill", "--help").output
    assert invoke("all", flag, "1").exit_code == 2
