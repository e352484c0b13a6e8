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
    # The third is the judging of the finished models, in float32.
    assert done.stdout.split() == ["1", "1", "1"]
    (kept,) = (run.folder / "programs").iterdir()
    assert kept.name.startswith("jax-")
    assert list(kept.iterdir())


def test_tensorflow_traces_once_for_all_folds_and_learns_as_if_alone(tmp_path):
    flags = ("--folds", "3", "--epochs", "2", "--patience", "0", "--balance", "oversample")
    together = plan_small(tmp_path / "together", *flags)
    alone = plan_small(tmp_path / "alone", *flags)
    dataset = load_images(together.protocol)
    trainer = None
    for fold in together.folds_of("edge"):
        trainer = FoldTrainer(fold, dataset, trainer)
        trainer.train()
    assert trainer is not None
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
