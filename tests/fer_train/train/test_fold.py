"""One fold, on drawn faces: learns, resumes, survives; needs Keras."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fer_edge.errors import DivergedError, RunError
from fer_train.cli import main
from fer_train.data.synthetic import synthetic_faces
from fer_train.export.sources import fold_source
from fer_train.network._keras import keras
from fer_train.network.models import FusedBatchNormalization, augmentation, build_model
from fer_train.run.evaluation import evaluate_model
from fer_train.run.folder import open_run, read_arrays, read_json, write_arrays
from fer_train.run.plan import load_images
from fer_train.run.recipes import Recipe, recipe_for
from fer_train.train.curves import best_epoch, plateau_rate, stops_early
from fer_train.train.fold import FoldTrainer

pytestmark = pytest.mark.tensorflow


def _plan(folder: Path, *flags: str, count: int = 140, model: str = "edge") -> None:
    result = CliRunner().invoke(
        main,
        [
            *("plan", "--data", f"synthetic:{count}", "--models", model, "--run", str(folder)),
            *("--folds", "2", "--precision", "float32", "--weights", "none"),
            *flags,
        ],
    )
    assert result.exit_code == 0, result.output


def _trainer(folder: Path, model: str = "edge") -> FoldTrainer:
    run = open_run(folder)
    dataset = load_images(run.protocol)
    return FoldTrainer(run.fold(model, 0), dataset)


def _begun(path: Path, head: str = "thesis") -> str:
    """Write a model to go on from."""
    build_model("edge", recipe_for("modern", "edge", {"head": head}), 7).save(path)
    return str(path)


class _Stop(Exception):
    pass


def _stop_after(epoch: int):
    def report(progress):
        if progress.row and progress.epoch == epoch:
            raise _Stop

    return report


def test_a_fold_learns_and_leaves_what_the_run_folder_promises(tmp_path):
    _plan(
        tmp_path,
        *("--epochs", "6", "--batch-size", "8", "--head", "gap", "--keep", "last"),
        *("--augmentation", "0", "--label-smoothing", "0", "--inner", "0"),
        count=420,
    )
    folder = tmp_path / "edge" / "fold-00"
    folder.mkdir(parents=True)
    # As a kill leaves a checkpoint that was being written.
    (folder / ".4242-checkpoint-001.npz").write_bytes(b"half")
    scores = _trainer(tmp_path).train()
    assert scores["accuracy"] > 0.4  # chance is 0.14
    assert {path.name for path in folder.iterdir()} == {
        "lock",
        "history.csv",
        "metrics.json",
        "model.keras",
        "predictions.npz",
    }
    assert len((folder / "history.csv").read_text().splitlines()) == 7
    predictions = read_arrays(folder / "predictions.npz")
    assert predictions["probabilities"].shape == (scores["images"], 7)
    assert predictions["probabilities"].sum(axis=1) == pytest.approx(1, abs=1e-5)
    # The exported file says how frequent each emotion was, which its answers have in mind.
    run = open_run(tmp_path)
    labels = load_images(run.protocol).labels[run.folds[0].train]
    shares = np.bincount(labels, minlength=7) / labels.size
    assert scores["prior"] == pytest.approx(shares.tolist(), abs=1e-6)
    assert fold_source(run.fold("edge", 0)).spec.prior == tuple(scores["prior"])


@pytest.mark.parametrize("balance", ["weights", "oversample"])
def test_balance_evens_the_prior(tmp_path, balance):
    _plan(tmp_path, "--balance", balance, count=200)
    assert _trainer(tmp_path).lessons[1].prior() == pytest.approx([1 / 7] * 7, abs=1e-5)


def test_the_evaluation_loss_is_that_of_keras_with_the_penalty(tmp_path):
    flags = ("--recipe", "thesis", "--epochs", "1", "--batch-size", "8")
    _plan(tmp_path, *flags, count=42, model="sequential")
    _trainer(tmp_path, "sequential").train()
    [fold] = evaluate_model(open_run(tmp_path), "sequential", partial=True).folds
    # This recipe judges each epoch by the fold itself.
    assert fold.score["loss"] == pytest.approx(fold.curves["val_loss"][-1], rel=1e-3)
    assert fold.score["loss"] > fold.score["log_loss"] + 0.1


@pytest.mark.parametrize("stop", [1, 2])
def test_a_stopped_fold_ends_with_the_same_metrics(tmp_path, stop):
    flags = ("--epochs", "3", "--balance", "oversample")
    for name in ("whole", "stopped"):
        _plan(tmp_path / name, *flags)
    whole = _trainer(tmp_path / "whole").train()
    with pytest.raises(_Stop):
        _trainer(tmp_path / "stopped").train(_stop_after(stop))
    resumed = _trainer(tmp_path / "stopped").train()
    assert _comparable(resumed) == pytest.approx(_comparable(whole), rel=1e-6)


def _comparable(scores: dict[str, object]) -> dict[str, float]:
    return {
        name: value
        for name, value in scores.items()
        if isinstance(value, float) and not name.endswith("_s")
    }


def test_a_frozen_stage_and_fine_tuning_resume_across_the_border(tmp_path):
    flags = ("--epochs", "3", "--frozen-epochs", "1", "--weights", _begun(tmp_path / "a.keras"))
    for name in ("whole", "stopped"):
        _plan(tmp_path / name, *flags)
    whole = _trainer(tmp_path / "whole").train()
    with pytest.raises(_Stop):
        _trainer(tmp_path / "stopped").train(_stop_after(1))
    resumed = _trainer(tmp_path / "stopped").train()
    assert _comparable(resumed) == pytest.approx(_comparable(whole), rel=1e-6)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    _plan(tmp_path, "--epochs", "3")
    with pytest.raises(_Stop):
        _trainer(tmp_path).train(_stop_after(2))
    newest = tmp_path / "edge" / "fold-00" / "checkpoint-002.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    epochs = []
    with caplog.at_level(logging.WARNING):
        _trainer(tmp_path).train(lambda progress: epochs.append(progress.epoch))
    assert epochs[0] == 2
    assert "the epoch before it is used" in caplog.text


def test_frozen_features_give_the_same_model_as_training_through_the_backbone(tmp_path):
    begun = _begun(tmp_path / "begun.keras", head="gap")
    for name in ("features", "through"):
        _plan(
            tmp_path / name,
            *("--epochs", "2", "--frozen-epochs", "2", "--augmentation", "0"),
            *("--optimizer", "sgd", "--head", "gap", "--weights", begun),
            model="edge",
        )
    by_features = _trainer(tmp_path / "features").train()
    assert len(list((tmp_path / "features" / "edge" / "features").glob("*.npy"))) == 1
    trainer = _trainer(tmp_path / "through")
    trainer.lessons = trainer.lessons[1], trainer.lessons[1]
    through = trainer.train()
    assert through["log_loss"] == pytest.approx(by_features["log_loss"], rel=1e-4)
    a, b = (
        read_arrays(tmp_path / name / "edge" / "fold-00" / "predictions.npz")["probabilities"]
        for name in ("features", "through")
    )
    assert np.abs(a - b).max() < 1e-4


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow)])
def test_sigkill_at_random_moments_changes_nothing(tmp_path, backend):
    """The count is small here; FER_EDGE_KILLS=20 is the full trial."""
    kills = int(os.environ.get("FER_EDGE_KILLS", "2"))
    # Epochs enough that no kill comes after the end; each is let by at most two.
    flags = ("--epochs", str(3 * kills), "--patience", "0")
    for name in ("whole", "killed"):
        _plan(tmp_path / name, *flags)
    # Threads add up sums in any order; the comparison needs one order.
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "TF_DETERMINISTIC_OPS": "1",
        "OMP_NUM_THREADS": "1",
    }

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "fer_train.cli", "fold", "--model", "edge", "--fold", "0"]
        return subprocess.Popen(
            [*command, "--run", str(tmp_path / name)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def epochs() -> set[str]:
        return {path.name for path in folder.glob("checkpoint-*.npz")}

    assert start("whole").wait() == 0
    history = np.genfromtxt(
        tmp_path / "whole" / "edge" / "fold-00" / "history.csv", delimiter=",", names=True
    )
    # The first epoch also traces the graph.
    epoch_s = float(np.median(history["seconds"][1:]))
    folder = tmp_path / "killed" / "edge" / "fold-00"
    chance = random.Random(7)
    for _ in range(kills):
        before = epochs()
        process = start("killed")
        # While it starts, or within the epoch after the first that it ends.
        if chance.random() < 0.75:
            while epochs() <= before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, epoch_s))
        else:
            time.sleep(chance.uniform(0, 5))
        assert process.poll() is None, "the fold has ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start("killed").wait() == 0
    whole, killed = (
        _comparable(read_json(tmp_path / name / "edge" / "fold-00" / "metrics.json"))
        for name in ("whole", "killed")
    )
    assert killed == pytest.approx(whole, rel=1e-6)


def test_all_goes_on_where_it_was_and_refuses_other_settings(tmp_path):
    run = tmp_path / "run"
    flags = ["all", "--data", "synthetic:140", "--models", "edge", "--folds", "2"]
    flags += ["--epochs", "1", "--run", str(run), "--no-export"]
    runner = CliRunner()
    first = runner.invoke(main, flags)
    assert first.exit_code == 0, first.output
    assert "mean +- sd" in first.stdout
    again = runner.invoke(main, flags)
    assert "2 of 2 folds are done" in again.stderr
    assert again.stdout == first.stdout
    other = runner.invoke(main, [*flags, "--seed", "3"])
    assert other.exit_code == 1
    assert "seed 0 there, 3 asked for" in other.stderr


def test_jobs_run_folds_in_processes_of_their_own(tmp_path):
    result = CliRunner().invoke(
        main,
        [
            *("all", "--data", "synthetic:140", "--models", "edge", "--folds", "2"),
            *("--epochs", "1", "--run", str(tmp_path / "run"), "--no-export", "--jobs", "2"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "edge fold 0 is done" in result.stderr
    assert "edge fold 1 is done" in result.stderr


def test_checkpoints_are_told_apart_by_their_epochs_not_their_names(tmp_path):
    _plan(tmp_path)
    trainer = _trainer(tmp_path)
    trainer.fold.folder.mkdir(parents=True)
    for epoch in (998, 999, 1000, 1001):
        (trainer.fold.folder / f"checkpoint-{epoch:03d}.npz").touch()
    epochs = [path.stem.partition("-")[2] for path in trainer.checkpoints.paths()]
    assert epochs == ["998", "999", "1000", "1001"]


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 20261125])
def test_any_seed_is_one_that_keras_takes(tmp_path, seed):
    _plan(tmp_path, "--seed", str(seed))
    drawn = _trainer(tmp_path).lessons[0].data.seed
    assert 0 <= drawn < 2**32
    keras.utils.set_random_seed(drawn)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_both_back_ends_train_a_fold(tmp_path, backend):
    _plan(tmp_path, "--epochs", "1")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "fer_train.cli", "fold", "--model", "edge", "--fold", "0"),
            *("--run", str(tmp_path)),
        ],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert f"{backend} on cpu" in result.stderr
    # Keras warns where a model of which the back end compiles every step is left uncompiled.
    assert "jit_compile" not in result.stderr
    metrics = json.loads((tmp_path / "edge" / "fold-00" / "metrics.json").read_text())
    assert metrics["device"].startswith(f"{backend} on cpu")


def test_the_plateau_rule_halves_the_rate_after_its_patience():
    falling = [{"val_loss": 1 / (epoch + 1)} for epoch in range(30)]
    assert plateau_rate(falling, 0.1) == 0.1
    flat = [{"val_loss": 1.0}] * 21
    assert plateau_rate(flat[:20], 0.1) == 0.1
    assert plateau_rate(flat, 0.1) == 0.05
    assert plateau_rate([{"val_loss": 1.0}] * 41, 0.1) == 0.025


def test_early_stopping_waits_for_its_patience():
    rows = [{"val_loss": loss} for loss in (1.0, 0.5, 0.6, 0.7)]
    assert not stops_early(rows, Recipe(patience=3))
    assert stops_early(rows, Recipe(patience=2))
    assert not stops_early(rows, Recipe(patience=0))
    assert not stops_early(rows, Recipe(patience=2, keep="last"))
    assert stops_early(rows, Recipe(patience=2, keep="last", schedule="plateau"))


def test_the_later_of_equal_epochs_is_the_best():
    assert best_epoch([{"val_accuracy": score} for score in (0.1, 0.5, 0.5, 0.4)]) == 3


def test_a_model_goes_on_from_a_keras_file(tmp_path):
    _plan(tmp_path / "first", "--epochs", "1")
    _trainer(tmp_path / "first").train()
    file = tmp_path / "first" / "edge" / "fold-00" / "model.keras"
    flags = ("--epochs", "1", "--learning-rate", "1e-9", "--weights", str(file))
    _plan(tmp_path / "second", *flags)
    trainer = _trainer(tmp_path / "second")
    net = build_model("edge", trainer.recipe, 7)
    saved = keras.saving.load_model(file, compile=False)
    for ours, theirs in zip(net.get_weights(), saved.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    (tmp_path / "broken.keras").write_bytes(file.read_bytes()[:1000])
    _plan(tmp_path / "third", "--weights", str(tmp_path / "broken.keras"))
    with pytest.raises(RunError, match=r"go on from, received .*broken\.keras"):
        _trainer(tmp_path / "third").train()


def test_erasing_overwrites_a_rectangle_of_some_images():
    images = np.full((200, 48, 48, 1), 100, np.float32)
    changed = augmentation(0.0, 0.5, seed=1)(images, training=True).numpy()[..., 0] != 100
    erased = changed[changed.any(axis=(1, 2))]
    assert 70 <= len(erased) <= 130
    for mask in erased:
        rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
        sides = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert all(6 <= side <= 28 for side in sides)
        assert mask.sum() == sides[0] * sides[1]
    untouched = augmentation(0.0, 0.5, seed=1)(images, training=False)
    assert np.array_equal(untouched, images)


def test_mixup_mixes_images_and_targets_by_the_same_share(tmp_path):
    _plan(tmp_path, "--epochs", "2", "--augmentation", "0", "--mixup", "0.4")
    trainer = _trainer(tmp_path)
    lesson = trainer.lessons[1]
    data = lesson.epoch_data(0)
    order, partner, share = data.inputs
    assert np.array_equal(lesson.order(0), order)
    assert np.array_equal(data.order, order)
    assert sorted(partner) == sorted(order)
    assert share.min() >= 0.5 and share.max() <= 1
    # Of Beta(0.4, 0.4) the larger share is 0.83 on average.
    assert share.mean() == pytest.approx(0.83, abs=0.04)
    labels, images = trainer.dataset.labels, trainer.dataset.images[..., None]
    same = labels[order] == labels[partner]
    assert np.allclose(data.targets.max(axis=1), np.where(same, 1, share.ravel()))
    assert np.allclose(data.weights, 1)

    net = build_model("edge", trainer.recipe, 7)
    first, second = (images[numbers].astype(np.float32) for numbers in (order, partner))
    mixed = share * first + (1 - share) * second
    assert np.allclose(lesson.network(net)(data.inputs), net(mixed), atol=1e-5)
    held = trainer.fold.split.validation
    unmixed = net(images[held].astype(np.float32))
    assert np.allclose(
        lesson.network(net)(lesson.inputs_of(held, np.ones(held.size))), unmixed, atol=1e-5
    )

    assert np.array_equal(_trainer(tmp_path).lessons[1].epoch_data(0).inputs[2], share)
    assert not np.array_equal(lesson.epoch_data(1).inputs[2], share)


def test_fused_normalisation_is_the_same_function():
    images, labels = synthetic_faces(32)
    inputs, targets = images[..., None].astype(np.float32), np.eye(7, dtype=np.float32)[labels]
    plain, fused = (keras.layers.BatchNormalization(), FusedBatchNormalization())
    trained = []
    for layer in (plain, fused):
        keras.utils.set_random_seed(0)
        net = keras.Sequential(
            [
                keras.Input((48, 48, 1)),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Conv2D(4, 3),
                layer,
                keras.layers.Flatten(),
                keras.layers.Dense(7, activation="softmax"),
            ]
        )
        net.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy")
        net.fit(inputs, targets, batch_size=32, shuffle=False, verbose=0)
        trained.append(net)
    for ours, keras_own in zip(fused.get_weights(), plain.get_weights(), strict=True):
        # The variance of a sample is larger than that of a batch by one in 32 x 46 x 46.
        assert np.allclose(ours, keras_own, rtol=2e-5, atol=1e-6)
    for ours, keras_own in zip(*(net.trainable_weights for net in trained), strict=True):
        assert np.allclose(ours, keras_own, rtol=1e-4, atol=1e-6)
    answers = [net.predict(inputs, verbose=0) for net in trained]
    assert np.abs(answers[0] - answers[1]).max() < 1e-5


def test_a_trained_fold_is_a_file_that_keras_alone_reads(tmp_path):
    _plan(tmp_path / "run", "--epochs", "1")
    _trainer(tmp_path / "run").train()
    file = tmp_path / "run" / "edge" / "fold-00" / "model.keras"
    program = """
import sys
import keras
net = keras.saving.load_model(sys.argv[1], compile=False)
print(net.input_shape, net.output_shape, "fer_train" in sys.modules)
"""
    command = [sys.executable, "-c", program, file]
    done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "(None, 48, 48, 1) (None, 7) False\n"


def test_a_loss_that_is_no_number_ends_the_fold_and_not_the_others(tmp_path, caplog):
    run = tmp_path / "run"
    flags = ("--data", "synthetic:140", "--models", "sequential", "--folds", "2", "--epochs", "9")
    flags += ("--optimizer", "sgd", "--learning-rate", "10", "--schedule", "plateau")
    command = ["all", *flags, "--run", str(run), "--no-export"]
    for _ in range(2):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 1
        assert "Traceback" not in result.output
        for fold in (0, 1):
            assert f"of fold {fold} of sequential in {run}" in caplog.text
        assert "plan a run with a lower --learning-rate, or with --precision" in caplog.text
        assert "sequential fold 0, sequential fold 1 failed" in result.stderr
        for fold in ("fold-00", "fold-01"):
            assert {path.name for path in (run / "sequential" / fold).iterdir()} <= {"lock"}
        caplog.clear()


def test_a_fold_that_was_kept_without_a_number_begins_anew(tmp_path):
    """As a run of before the loss was watched left it."""
    _plan(tmp_path, "--epochs", "3")
    with pytest.raises(_Stop):
        _trainer(tmp_path).train(_stop_after(1))
    trainer = _trainer(tmp_path)
    (checkpoint,) = trainer.checkpoints.paths()
    arrays = read_arrays(checkpoint)
    history = json.loads(arrays["history"].tobytes())
    history[0]["loss"] = float("nan")
    arrays["history"] = np.frombuffer(json.dumps(history).encode(), np.uint8)
    write_arrays(checkpoint, arrays)
    with pytest.raises(DivergedError, match=r"received nan in epoch 1 of fold 0 of edge"):
        trainer.train()
    assert _trainer(tmp_path).train()["epochs"] == 3


def test_an_epoch_without_a_number_is_never_the_best():
    scores = (0.1, float("nan"), 0.4, float("nan"))
    assert best_epoch([{"val_accuracy": score} for score in scores]) == 3
