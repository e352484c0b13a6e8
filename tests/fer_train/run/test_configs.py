"""configs/: each file holds settings that its model takes, headed by commands that can be given."""

import re
import shlex
from pathlib import Path

import pytest

from fer_train.cli import main
from fer_train.run.recipes import KERAS_MODELS, read_overrides, recipe_for

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"
_OF_RUNS = ("folds", "grouping", "inner", "seed")


def commands(path: Path) -> list[list[str]]:
    """Return the words of each command in a file's heading."""
    heading = path.read_text().partition("\n\n")[0]
    text = re.sub(r"\\\n# *", "", heading)
    return [shlex.split(line) for line in re.findall(r"^#   (fer-train .*)$", text, re.MULTILINE)]


STAGES = {
    "sequential": ["all", "all"],
    "vgg16": ["all"],
    "resnet50": ["distill"],
    "edge": ["all", "distill"],
}
"""The commands in each file's heading: what the shipped weights went through."""


@pytest.mark.parametrize("model", KERAS_MODELS)
def test_settings_are_those_that_a_model_takes(model: str) -> None:
    settings = read_overrides(CONFIGS / f"{model}.toml", model)
    recipe = recipe_for("modern", model, {k: v for k, v in settings.items() if k not in _OF_RUNS})
    assert recipe.epochs == settings["epochs"]
    asked = [words[1] for words in commands(CONFIGS / f"{model}.toml")]
    assert asked == STAGES[model]


@pytest.mark.parametrize("model", KERAS_MODELS)
def test_commands_have_flags_that_exist_and_files_that_are_there(model: str) -> None:
    made: list[str] = ["fer2013.zip", "fer2013new.csv"]
    for words in commands(CONFIGS / f"{model}.toml"):
        command = main.commands[words[1]]
        flags = {flag for parameter in command.params for flag in parameter.opts}
        options = [word for word in words if word.startswith("--")]
        assert set(options) <= flags
        files = [word for word in words if re.search(r"/|\.(zip|csv)$", word)]
        run = words[words.index("--run") + 1]
        for file in (file for file in files if file != run):
            assert file in made or (ROOT / file).is_file() or file.startswith(f"{made[-1]}/")
        made.append(run)
    assert words[words.index("--config") + 1] == f"configs/{model}.toml"
    assert model in words
