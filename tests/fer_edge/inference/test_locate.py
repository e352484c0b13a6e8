from pathlib import Path

import pytest

from fer_edge.errors import ModelError
from fer_edge.inference import locate
from fer_edge.inference.locate import DEFAULT_MODEL, find_model


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A working folder apart from a checkout of the package."""
    for folder in ("work/exported", "checkout/exported", "checkout/fer_edge/models"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(locate, "__file__", str(tmp_path / "checkout/fer_edge/inference/locate.py"))
    return tmp_path


def test_nearer_places_come_first(places):
    order = ["checkout/fer_edge/models", "checkout/exported", "work/exported", "work"]
    for folder in order:
        (places / folder / "vgg16.onnx").write_text(folder)
        assert find_model("vgg16.onnx").resolve() == (places / folder / "vgg16.onnx").resolve()


def test_int8_stands_in_for_a_missing_file_alone(places):
    (places / "work/vgg16.int8.onnx").touch()
    assert find_model("vgg16.onnx").name == "vgg16.int8.onnx"
    (places / "checkout/fer_edge/models/vgg16.onnx").touch()
    assert find_model("vgg16.onnx").name == "vgg16.onnx"
    assert find_model("vgg16.int8.onnx").name == "vgg16.int8.onnx"


def test_the_default_is_the_one_that_came_with_the_package(places):
    (places / "checkout/exported" / DEFAULT_MODEL).touch()
    (places / "work" / DEFAULT_MODEL).touch()
    assert find_model() == places / "checkout/exported" / DEFAULT_MODEL


def test_names_need_no_ending(places):
    (places / "work/edge.int8.onnx").touch()
    assert find_model("edge").name == "edge.int8.onnx"
    assert find_model("edge.int8").name == "edge.int8.onnx"
    (places / "checkout/exported/edge.onnx").touch()
    assert find_model("edge").name == "edge.onnx"
    with pytest.raises(ModelError, match="found none"):
        find_model("edge.txt")


def test_a_path_is_taken_as_it_is(places):
    (places / "work/exported/vgg16.onnx").touch()
    assert find_model("exported/vgg16.onnx") == Path("exported/vgg16.onnx")
    for path in ("./vgg17.onnx", "checkout/vgg16.onnx", places / "vgg16.onnx"):
        with pytest.raises(ModelError, match="found none"):
            find_model(path)


@pytest.mark.parametrize("name", ["", ".", "..", "nothing.onnx", "x" * 5000])
def test_what_is_nowhere_is_an_error(name):
    with pytest.raises(ModelError, match="found none"):
        find_model(name)
