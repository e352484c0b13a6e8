"""What is compiled for one fold serves the next one, and changes nothing of what it learns."""

import os
import subprocess
import sys

import numpy as np
import pytest

from fer_train.run.folder import open_run
from fer_train.run.plan import load_images
from fer_train.train.fold import FoldTrainer
from tests.support.made_runs import plan_small

pytestmark = pytest.mark.tensorflow

_COUNT = """
import collections, logging, re, sys
from pathlib import Path
import jax
from fer_train.run.folder import open_run
from fer_train.run.plan import load_images
from fer_train.train.schedule import run_here

counts = collections.Counter()

class Count(logging.Handler):
    def emit(self, record):
        if found := re.match(r"Compiling jit\\((\\w+)\\)", record.getMessage()):
            counts[found[1]] += 1

jax.config.update("jax_log_compiles", True)
logger = logging.getLogger("jax._src.interpreters.pxla")
logger.addHandler(Count())
logger.propagate = False
run = open_run(Path(sys.argv[1]))
run_here(load_images(run.protocol), run.folds_of("edge"))
print(counts["train_steps"], counts["evaluation_steps"], counts["predict_step"])
"""


def test_jax_compiles_one_training_and_one_evaluation_for_all_folds(tmp_path):
    run = plan_small(tmp_path / "run", "--folds", "3", "--epochs", "2", "--patience", "0")
    sizes = {(fold.train.size, fold.inner.size, fold.test.size) for fold in run.folds}
    assert len(sizes) > 1, "folds of one size would prove nothing"
    done = subprocess.run(
        [sys.executable, "-c", _COUNT, run.folder],
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The third is the evaluation of the finished models, in float32.
    assert done.stdout.split() == ["1", "1", "1"]
    (kept,) = (run.folder / "programs").iterdir()
    assert kept.name.startswith("jax-")
    assert list(kept.iterdir())


_BOTH_WAYS = """
import numpy as np
from fer_train.network._keras import keras
from fer_train.network.loops import filled, make_loops

rng = np.random.default_rng(0)
inputs = rng.normal(size=(40, 5)).astype("float32")
targets = np.eye(3, dtype="float32")[rng.integers(0, 3, 40)]
rates = np.linspace(0.01, 0.1, 5, dtype=np.float32)
for fast in (True, False):
    keras.utils.set_random_seed(0)
    # TensorFlow's own kernels draw other random numbers than XLA.
    drop = keras.layers.Dropout(0.5 if keras.backend.backend() == "jax" else 0.0)
    layers = [keras.layers.Dense(8), drop, keras.layers.Dense(3, "softmax")]
    net = keras.Sequential([keras.Input((5,)), *layers])
    optimizer = keras.optimizers.Adam(0.5)
    optimizer.build(net.trainable_variables)
    loss = keras.losses.CategoricalCrossentropy()
    loops = make_loops(net, optimizer, loss, 8, 8, whole=fast, xla=fast)
    batches = loops.put(filled([inputs], targets, np.ones(40, np.float32), rates, rows=44, size=8))
    parts = [loops.train(batches, 0, 2), loops.train(batches, 2, 5)]
    parts.append(loops.evaluate(batches, 0, 5))
    print(*(round(loss, 3) for loss, _ in parts), [len(found) for _, found in parts])
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_learning_is_the_same_in_the_way_of_a_gpu(backend):
    """By XLA on TensorFlow, in a loop on JAX; neither is so on a processor."""
    done = subprocess.run(
        [sys.executable, "-c", _BOTH_WAYS],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    fast, plain = done.stdout.splitlines()
    assert fast == plain
    assert "[16, 24, 40]" in fast


@pytest.mark.usefixtures("bfloat16_without_numbers")
def test_a_precision_without_numbers_gives_way_to_float32(tmp_path, caplog):
    folder = tmp_path / "run"
    flags = ("--precision", "auto", "--folds", "2", "--epochs", "1")
    run = plan_small(folder, *flags)
    dataset = load_images(run.protocol)
    trainer = FoldTrainer(run.fold("edge", 0), dataset)
    with caplog.at_level("WARNING"):
        assert trainer.train()["dtype_policy"] == "float32"
    assert "gave no number in mixed_bfloat16; it is trained in float32" in caplog.text
    assert FoldTrainer(run.fold("edge", 1), dataset, trainer).precision == "float32"


def test_tensorflow_traces_once_for_all_folds_and_learns_as_if_alone(tmp_path):
    flags = ("--folds", "3", "--epochs", "2", "--patience", "0", "--balance", "oversample")
    together = plan_small(tmp_path / "together", *flags)
    alone = plan_small(tmp_path / "alone", *flags)
    dataset = load_images(together.protocol)
    trainer = None
    for fold in together.folds_of("edge"):
        trainer = FoldTrainer(fold, dataset, trainer)
        trainer.train()
    assert trainer.compiled.stages[1].loops.compilations == (1, 1)
    last = FoldTrainer(alone.fold("edge", 2), dataset)
    last.train()
    expected, found = (open_run(r.folder).fold("edge", 2).curves for r in (alone, together))
    assert expected.keys() == found.keys()
    for name in expected.keys() - {"seconds"}:
        assert found[name] == pytest.approx(expected[name], abs=1e-5), name


def test_the_last_batch_is_filled_with_what_the_epoch_began_with(tmp_path):
    trainer = _trainer(tmp_path, "--batch-size", "16")
    trainer.build()
    stage, lesson = trainer.stage(1), trainer.lessons[1]
    data = lesson.epoch_data(0)
    steps = -(-data.order.size // 16)
    assert data.order.size % 16
    batches = stage.training_batches(lesson, data, np.zeros(steps, np.float32))
    (numbers,) = (np.asarray(array) for array in batches.inputs)
    missing = steps * 16 - data.order.size
    assert np.array_equal(numbers[: steps * 16], [*data.order, *data.order[:missing]])
    targets = np.asarray(batches.targets)
    assert np.array_equal(targets[: steps * 16], lesson.data.targets[numbers[: steps * 16]])


def test_the_loss_of_held_out_images_is_their_mean_whatever_fills_the_batch(tmp_path):
    trainer = _trainer(tmp_path, "--label-smoothing", "0.1")
    net = trainer.build()
    stage, held = trainer.stage(1), trainer.held
    row = trainer.run_epoch(stage, [])
    answers = net.predict(trainer.dataset.images[held][..., None].astype(np.float32), verbose=0)
    targets = 0.9 * np.eye(7)[trainer.dataset.labels[held]] + 0.1 / 7
    expected = -np.sum(targets * np.log(answers), axis=1).mean()
    assert row["val_loss"] == pytest.approx(expected, rel=1e-4)


def _trainer(folder, *flags: str) -> FoldTrainer:
    run = plan_small(folder, "--folds", "3", *flags)
    return FoldTrainer(run.fold("edge", 0), load_images(run.protocol))
