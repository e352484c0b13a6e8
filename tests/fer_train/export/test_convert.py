"""Keras -> ONNX: what the file holds, what the gate refuses, what lies in the folder."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from fer_edge.contract import EMOTIONS, ModelSpec, spec_from_metadata
from fer_edge.errors import ExportError
from fer_edge.inference.classifier import Classifier
from fer_train.cli import main
from fer_train.export import convert as export
from fer_train.export.convert import export_file, export_model, gate_sample
from fer_train.export.facts import read_facts
from fer_train.export.simplify import operators
from fer_train.export.sources import best_fold
from fer_train.network._keras import keras
from fer_train.network.averaging import average
from fer_train.network.models import build_model
from fer_train.run.folder import Run
from fer_train.run.plan import load_images, plan_run
from fer_train.run.recipes import PROTOCOL_DEFAULTS, Protocol, recipe_for
from fer_train.run.reproduce import training_command
from tests.support.fake_runs import make_run, write_fold
from tests.support.keras_models import tiny_net

pytestmark = pytest.mark.tensorflow


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def tiny_keras(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.keras"
    tiny_net().save(path)
    return path


def test_the_file_describes_itself_and_answers_like_keras(tmp_path: Path) -> None:
    net, path = tiny_net(), tmp_path / "out" / "tiny.onnx"
    spec = ModelSpec(model="tiny", recipe="modern", fold=3, scores={"accuracy": 0.5})
    assert export_model(net, spec, path, gate_sample()) <= 1e-5
    model = Classifier(path, detector="none")
    assert (model.spec.model, model.spec.fold, model.spec.scores) == ("tiny", 3, {"accuracy": 0.5})
    assert model.spec.package_version
    for count in (1, 5):
        batch = gate_sample()[:count]
        answers = model.probabilities(batch)
        np.testing.assert_allclose(answers, net.predict(batch, verbose=0), atol=1e-5)
    assert answers.std(axis=0).max() > 1e-3  # or the comparison would prove nothing
    assert names(path.parent) == ["tiny.onnx"]


def test_normalisations_transposes_and_shapes_are_folded(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    export_model(tiny_net(), ModelSpec(), path, gate_sample())
    file = onnx.load(path)
    # The Adds: colour means, the residual, and the shift that a padded convolution reads.
    assert operators(file) == {
        "Reshape": 1, "Concat": 1, "Mul": 1, "Add": 3, "Conv": 5, "Relu": 5, "MaxPool": 3,
        "Flatten": 1, "Gemm": 2, "Softmax": 1,
    }  # fmt: skip
    assert [(opset.domain, opset.version >= 17) for opset in file.opset_import] == [("", True)]
    assert [node.name for node in file.graph.input] == ["image"]
    assert [node.name for node in file.graph.output] == ["probabilities"]
    for value in (file.graph.input[0], file.graph.output[0]):
        assert value.type.tensor_type.shape.dim[0].dim_param == "N"


def test_a_negative_scale_after_relu_stays_and_is_right(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    export_model(tiny_net(negative_scale=True), ModelSpec(), path, gate_sample())
    assert operators(onnx.load(path))["Mul"] == 2


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        export_model(tiny_net(), ModelSpec(model="tiny"), tmp_path / name, gate_sample())
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("name", ["sequential", "edge"])
def test_shipped_architectures_have_no_needless_nodes(name: str, tmp_path: Path) -> None:
    net = build_model(name, recipe_for("modern", name, {"weights": "none"}), 7)
    path = tmp_path / "net.onnx"
    export_model(net, ModelSpec(), path, gate_sample())
    found = operators(onnx.load(path))
    kinds = {"Reshape", "Mul", "Add", "Conv", "Relu", "MaxPool", "Flatten", "Gemm", "Softmax"}
    assert set(found) == kinds
    assert found["Reshape"] == found["Flatten"] == found["Mul"] == 1


def test_mixed_precision_is_exported_in_float32(tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        net = tiny_net()
    finally:
        keras.config.set_dtype_policy("float32")
    path = tmp_path / "tiny.onnx"
    export_model(net, ModelSpec(), path, gate_sample())
    wanted = tiny_net().predict(gate_sample(), verbose=0)
    answers = Classifier(path, detector="none").probabilities(gate_sample())
    np.testing.assert_allclose(answers, wanted, atol=1e-5)
    assert "bfloat16" in {layer.compute_dtype for layer in net.layers}


def test_a_file_that_answers_differently_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def perturb(model: onnx.ModelProto) -> onnx.ModelProto:
        model = simplify(model)
        weights = model.graph.initializer[-2]
        value = onnx.numpy_helper.to_array(weights) * 1.01
        weights.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float32), weights.name))
        return model

    simplify = export.simplify
    monkeypatch.setattr(export, "simplify", perturb)
    with pytest.raises(ExportError, match="at most 1e-05, received"):
        export_model(tiny_net(), ModelSpec(), tmp_path / "tiny.onnx", gate_sample())
    assert not names(tmp_path)


def test_an_older_file_survives_a_refused_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(b"older")
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(ExportError):
        export_model(tiny_net(), ModelSpec(), path, gate_sample())
    assert path.read_bytes() == b"older"


def test_what_is_no_keras_file_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "model.keras"
    source.write_bytes(b"nothing")
    with pytest.raises(ExportError, match="Expected a Keras model"):
        export_file(source, ModelSpec(), tmp_path / "model.onnx")


def test_export_works_under_another_back_end(tiny_keras: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    program = (
        "import sys; from pathlib import Path; from fer_edge.contract import ModelSpec\n"
        "from fer_train.export.convert import export_file\n"
        "source, path = map(Path, sys.argv[1:])\n"
        "export_file(source, ModelSpec(model='tiny'), path)\n"
        "assert 'tf2onnx' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tiny_keras), str(path)],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        check=True,
    )
    spec = spec_from_metadata(
        {entry.key: entry.value for entry in onnx.load(path).metadata_props}, path.name
    )
    assert (spec.model, spec.labels) == ("tiny", EMOTIONS)


def test_the_best_fold_is_best_on_the_images_that_steered_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, folds=3)
    for index, accuracy in enumerate((0.3, 0.6, 0.5)):
        rows = "epoch,val_accuracy\n1,0.99\n" + f"2,{accuracy}\n3,0.99\n"  # 2 is the kept epoch
        (run.fold("sequential", index).folder / "history.csv").write_text(rows)
    assert best_fold(run, "sequential").index == 1


@pytest.fixture
def run(tmp_path: Path, tiny_keras: Path) -> Run:
    """A finished run of drawn faces, with the tiny net in place of the model."""
    protocol = Protocol("synthetic:140", folds=2, grouping="none")
    dataset = load_images(protocol)
    recipes = {"sequential": recipe_for("modern", "sequential", {"epochs": 3})}
    run = plan_run(tmp_path / "run", protocol, recipes, dataset)
    for fold in run.folds:
        write_fold(run, "sequential", fold, dataset.labels, 2.0)
        target = run.fold("sequential", fold.index).folder / "model.keras"
        target.write_bytes(tiny_keras.read_bytes())
    return run


def test_the_command_writes_model_log_card_and_digests(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    arguments = ["export", str(run.folder), "--export-dir", str(folder), "--fold", "1", "--keras"]
    result = CliRunner().invoke(main, [*arguments, "--int8"])
    assert result.exit_code == 1, result.output
    assert "sequential.int8.onnx is not written: expected at least 100" in result.stderr
    assert names(folder) == [
        "MODELS.md", "SHA256SUMS", "sequential.history.csv", "sequential.json",
        "sequential.keras", "sequential.onnx",
    ]  # fmt: skip
    model = Classifier(folder / "sequential.onnx", detector="none")
    assert (model.spec.fold, model.spec.dataset) == (1, "synthetic:140")
    assert model.spec.dataset_digest == run.dataset_digest
    facts = read_facts(folder / "sequential.onnx")
    assert facts["evaluated_on"] == "the held-out fold"
    assert facts["single"]["images"] == 70
    card = (folder / "MODELS.md").read_text()
    assert "## sequential.onnx" in card
    assert f"| Top-1 on the held-out fold | {facts['single']['accuracy']:.2%} |" in card
    assert str(tmp_path) not in card + (folder / "sequential.json").read_text()
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    again = CliRunner().invoke(main, ["cards", "--export-dir", str(folder)])
    assert again.exit_code == 0
    assert (folder / "MODELS.md").read_text() == card


def test_the_card_tells_what_the_model_went_on_from(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    arguments = ["export", str(run.folder), "--export-dir", str(folder), "--fold", "1"]
    result = CliRunner().invoke(main, [*arguments, "--earlier", str(run.folder)])
    assert result.exit_code == 0, result.output
    command = read_facts(folder / "sequential.onnx")["command"]
    assert f"| Stage 1 before it | `{command}`: " in (folder / "MODELS.md").read_text()
    assert (folder / "sequential.stage-1.history.csv").read_text() == (
        run.fold("sequential", 1).folder / "history.csv"
    ).read_text()


def test_an_average_is_the_mean_of_the_weights_and_carries_scores_of_its_own(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "exported"
    arguments = ["export", str(run.folder), "--export-dir", str(folder), "--fold", "1"]
    alone = CliRunner().invoke(main, [*arguments, "--average"])
    assert alone.exit_code == 1
    assert "Expected --earlier with --average" in alone.output

    source = run.fold("sequential", 1).folder / "model.keras"
    other = tmp_path / "other"
    shutil.copytree(run.folder, other)
    changed = keras.saving.load_model(source, compile=False)
    changed.set_weights([array * np.float32(0.5) for array in changed.get_weights()])
    changed.save(other / "sequential" / "fold-01" / "model.keras")

    result = CliRunner().invoke(main, [*arguments, "--earlier", str(other), "--average", "--keras"])
    assert result.exit_code == 0, result.output
    mean = keras.saving.load_model(folder / "sequential.keras", compile=False)
    own = keras.saving.load_model(source, compile=False)
    for got, trained in zip(mean.trainable_variables, own.trainable_variables, strict=True):
        assert np.allclose(got, trained * np.float32(0.75), atol=1e-6)
    facts = read_facts(folder / "sequential.onnx")
    spec = Classifier(folder / "sequential.onnx", detector="none").spec
    assert spec.scores["accuracy"] == pytest.approx(facts["single"]["accuracy"])
    assert spec.scores["log_loss"] != pytest.approx(run.fold("sequential", 1).score["log_loss"])
    assert "| Weights | the mean with stage 1, batch" in (folder / "MODELS.md").read_text()

    # Where the runs are gone, the exported model stands for them.
    exported = folder / "sequential.keras"
    weights = mean.get_weights()
    result = CliRunner().invoke(main, [*arguments, "--earlier", str(exported), "--average"])
    assert result.exit_code == 0, result.output
    card = (folder / "MODELS.md").read_text()
    assert f"top-1 {facts['single']['accuracy']:.2%} as the mean with stage 1 |" in card
    assert "| Weights | the mean with stage 2, batch" in card
    assert read_facts(folder / "sequential.onnx")["averaged"] == [2]
    log = (run.fold("sequential", 1).folder / "history.csv").read_text()
    for name in ("stage-1.", "stage-2.", ""):
        assert (folder / f"sequential.{name}history.csv").read_text() == log
    kept = keras.saving.load_model(exported, compile=False).get_weights()
    assert all(map(np.array_equal, kept, weights))


def test_what_is_no_exported_model_of_that_name_is_no_earlier_one(run: Run, tmp_path: Path) -> None:
    arguments = ["export", str(run.folder), "--export-dir", str(tmp_path / "exported")]
    for name, facts, message in (
        ("edge.keras", None, "Expected a file that fer-train wrote at"),
        ("edge.keras", {"model": "edge"}, "Expected a run or an exported sequential.keras"),
        ("sequential.onnx", {"model": "sequential"}, "Expected a run or an exported"),
        (
            "sequential.keras",
            {"model": "sequential", "earlier": [], "single": {"accuracy": 0.5}},
            "Expected the log of a training at",
        ),
    ):
        path = tmp_path / name
        path.touch()
        if facts is not None:
            path.with_suffix(".json").write_text(json.dumps(facts))
        result = CliRunner().invoke(main, [*arguments, "--earlier", str(path)])
        assert result.exit_code == 1
        assert message in result.output
    assert not (tmp_path / "exported").exists()


def test_batch_statistics_of_an_average_are_those_of_the_images(tmp_path: Path) -> None:
    image = keras.Input((48, 48, 1))
    normalization = keras.layers.BatchNormalization()
    net = keras.Model(image, keras.layers.Flatten()(normalization(image)))
    net.save(tmp_path / "net.keras")
    images = np.random.default_rng(0).integers(0, 256, (1000, 48, 48)).astype(np.uint8)
    mean = average([tmp_path / "net.keras"] * 2, images)
    layer = mean.layers[1]
    assert float(layer.moving_mean[0]) == pytest.approx(images.mean(), rel=1e-3)
    assert float(layer.moving_variance[0]) == pytest.approx(images.var(), rel=1e-3)
    assert layer.momentum == 0.99

    darker = average([tmp_path / "net.keras"] * 2, images, lambda batch, training: batch / 2)
    assert float(darker.layers[1].moving_mean[0]) == pytest.approx(images.mean() / 2, rel=1e-3)


def test_smaller_forms_of_an_earlier_file_do_not_stay(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    arguments = ["export", str(run.folder), "--export-dir", str(folder)]
    half = folder / "sequential.fp16.onnx"
    assert CliRunner().invoke(main, [*arguments, "--fold", "0", "--fp16"]).exit_code == 0
    assert CliRunner().invoke(main, [*arguments, "--fold", "0"]).exit_code == 0
    assert half.is_file()
    result = CliRunner().invoke(main, [*arguments, "--fold", "1"])
    assert result.exit_code == 0
    assert f"{half}: removed, since it was made from an earlier" in result.output
    assert names(folder) == [
        "MODELS.md", "SHA256SUMS", "sequential.history.csv", "sequential.json", "sequential.onnx",
    ]  # fmt: skip


def test_a_model_of_another_training_is_not_replaced_unasked(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export = ["export", str(run.folder), "--fold"]
    assert CliRunner().invoke(main, [*export, "0"]).exit_code == 0
    before = Path("exported/sequential.onnx").read_bytes()
    again = CliRunner().invoke(main, [*export, "0"])
    assert again.output.startswith(f"{Path('exported/sequential.onnx')}: top-1")
    other = CliRunner().invoke(main, [*export, "1"])
    assert other.exit_code == 0
    assert "has a sequential of another training, which stays" in other.stderr
    assert Path("exported/sequential.onnx").read_bytes() == before
    assert (run.folder / "exported/sequential.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "vgg16"], "has sequential, received vgg16"),
        (["--fold", "2"], "expected best or 0 to 1, received 2"),
        (["--fold", "first"], "expected best or 0 to 1, received first"),
    ],
)
def test_wrong_flags_exit_with_2(run: Run, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["export", str(run.folder), *arguments])
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_command_on_a_card_gives_the_recipe_again() -> None:
    recipe = recipe_for("modern", "vgg16", {"weights": "none", "epochs": 36, "batch_size": 32})
    protocol = Protocol("some/where/fer2013.zip", folds=1, seed=4, **PROTOCOL_DEFAULTS["modern"])
    assert training_command(protocol, "vgg16", recipe) == (
        "fer-train all --data fer2013.zip --models vgg16 --folds 1 --seed 4 --epochs 36 "
        "--weights none --batch-size 32"
    )
