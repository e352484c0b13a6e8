from pathlib import Path

import pytest

from fer_edge.errors import DataError
from fer_train.detection.settings import DetectorRecipe, read_settings, recipe_of

pytestmark = pytest.mark.tensorflow


def test_settings_go_by_name_there_and_back():
    recipe = recipe_of({"steps": 7, "turn": 30.0, "negative": 2.0})
    assert (recipe.training.steps, recipe.tiles.turn, recipe.loss.negative) == (7, 30, 2)
    assert recipe_of(recipe.values()) == recipe
    assert recipe_of({}) == DetectorRecipe()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stride": 4}, r"settings among .*, received stride"),
        ({"steps": 0}, r"steps of 1 or more, received 0"),
        ({"steps": "many"}, r"steps of a whole number, received 'many'"),
        ({"size": 100}, r"size of a multiple of 32"),
        ({"mosaic": 1.5}, r"mosaic of 0 to 1, received 1\.5"),
        ({"turned": 0.6}, r"turned of 0 to 0\.5"),
        ({"rate": float("nan")}, r"rate of a number"),
        ({"inner": 1.0}, r"inner of 0 to below 1"),
        ({"smallest": 400.0}, r"smallest of 1 to 304"),
        ({"soft": -0.1}, r"soft of 0 to 1"),
        ({"precision": "float8"}, r"precision of auto or float32"),
    ],
)
def test_wrong_settings_are_refused_with_what_is_right(values, message):
    with pytest.raises(DataError, match=message):
        recipe_of(values)


def test_a_file_of_settings_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text("steps = ")
    for name in ("a.toml", "missing.toml"):
        with pytest.raises(DataError, match=f"a TOML file of settings, received .*{name}"):
            read_settings(tmp_path / name)


def test_the_shipped_settings_are_read():
    path = Path(__file__).parents[3] / "configs" / "face.toml"
    assert recipe_of(read_settings(path)).training.steps == 17_700
