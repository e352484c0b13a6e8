"""The file of a model of one's own, before it is run; settings of such a model."""

import pytest

from fer_edge.errors import DataError, RunError
from fer_train.run.folder import Run, open_run
from fer_train.run.model_file import read_model_file
from fer_train.run.recipes import Protocol, read_overrides, recipe_for
from fer_train.run.reproduce import training_command
from tests.support.trainer import invoke

CODE = "def build(input_shape, classes):\n    return None\n"


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(CODE)
    return path


def test_a_model_is_called_as_its_file(net):
    assert read_model_file(f"{net}:build") == (
        "net",
        {"model_file": "net.py:build", "code": CODE},
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("net.py", "Expected FILE.py:FUNCTION"),
        ("net.py:", "Expected FILE.py:FUNCTION"),
        ("net.txt:build", "Expected FILE.py:FUNCTION"),
        ("net.py:1", "Expected FILE.py:FUNCTION"),
        ("gone.py:build", "No such file"),
    ],
)
def test_what_is_no_such_file_is_wrong_usage(net, text, told):
    run = net.parent / "run"
    result = invoke("plan", "--model-file", net.parent / text, "--run", run)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not run.exists()


@pytest.mark.parametrize("name", ["edge", "svm", "programs", "1net", "my net"])
def test_names_that_would_collide_are_refused(tmp_path, name):
    path = tmp_path / f"{name}.py"
    path.write_text(CODE)
    result = invoke("settings", "--model-file", f"{path}:build")
    assert result.exit_code == 2
    assert "rename its file" in result.stderr


def test_settings_are_printed_and_read_again_from_beside_the_file(net):
    result = invoke("settings", "--model-file", f"{net}:build", "--recipe", "thesis")
    assert result.exit_code == 0, result.output
    assert "[net]" in result.stdout
    for other in ("preprocessing", "head", "normalization", "l2", "code"):
        assert f"{other} =" not in result.stdout
    config = net.with_name("net.toml")
    config.write_text(result.stdout + "\n[large]\nmodel_file = 'net.py:build'\nepochs = 3\n")
    overrides = read_overrides(config, "net")
    assert overrides["code"] == CODE
    recipe = {key: value for key, value in overrides.items() if key not in Protocol.__annotations__}
    own = read_model_file(f"{net}:build").settings
    assert recipe_for("thesis", "net", recipe) == recipe_for("thesis", "net", own)
    # A table may name any model.
    assert read_overrides(config, "large")["epochs"] == 3


def test_a_table_of_no_model_is_refused(net):
    config = net.with_name("a.toml")
    config.write_text("[nett]\nepochs = 3\n")
    with pytest.raises(DataError, match="received nett"):
        read_overrides(config, "net", ["net"])
    config.write_text("[net]\nepochs = 3\n")
    assert read_overrides(config, "net", ["net"]) == {"epochs": 3}
    config.write_text("[edge]\nmodel_file = 'net.py:build'\n")
    with pytest.raises(DataError, match="received model_file"):
        read_overrides(config, "edge")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--models", "nett"), "or one of your own with --model-file nett.py:FUNCTION"),
        (("--models", "edge", "--model-file", "NET"), "received --models edge without it"),
        (("--model-file", "NET", "--preprocessing", "unit"), "Expected no preprocessing for net"),
        (("--model-file", "NET", "--head", "gap"), "Expected no head for net"),
        (("--models", "vgg16", "--image-size", "24"), "32 pixels or more for vgg16, received 24"),
        (("--image-size", "8"), "8 is not in the range"),
    ],
)
def test_settings_that_do_not_suit_are_wrong_usage(net, flags, told):
    words = [f"{net}:build" if flag == "NET" else flag for flag in flags]
    result = invoke(
        "plan", *words, "--weights", "none", "--frozen-epochs", 0, "--run", net.parent / "run"
    )
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())


def planned(net, **protocol):
    own = read_model_file(f"{net}:build").settings
    settings = Protocol("synthetic:70", **protocol)
    return Run(net.parent / "run", settings, "0", {"net": recipe_for("modern", "net", own)}, [])


def test_the_code_lies_in_the_run_folder_and_comes_back(net):
    run = planned(net)
    run.save()
    assert (run.folder / "net/net.py").read_text() == CODE
    assert "def build" not in (run.folder / "config.json").read_text()
    assert open_run(run.folder).recipes == run.recipes


def test_code_that_was_changed_is_another_run(net):
    run = planned(net)
    run.save()
    net.write_text(CODE.replace("None", "0"))
    with pytest.raises(RunError, match=r"the code of net in net.py:build is another\)"):
        open_run(run.folder).check_same(planned(net))
    (run.folder / "net/net.py").write_text("changed")
    with pytest.raises(RunError, match="received other code; undo the change"):
        open_run(run.folder)


def test_a_size_that_images_have_anyway_is_no_difference(net):
    run = planned(net)
    run.check_same(planned(net, image_size=48, color="gray"))
    with pytest.raises(RunError, match="image_size None there, 64 asked for"):
        run.check_same(planned(net, image_size=64))


def test_the_command_that_trains_it_again_names_file_form_and_what_differs(net):
    run = planned(net, image_size=64, color="rgb", folds=3)
    assert training_command(run.protocol, "net", run.recipes["net"]) == (
        "fer-train all --data synthetic:70 --models net --folds 3 --color rgb --image-size 64 "
        "--model-file net.py:build"
    )
