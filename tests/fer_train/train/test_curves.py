"""What the curves are drawn from, beside what Keras says of the same numbers."""

import numpy as np
import pytest

from fer_train.network._keras import keras
from fer_train.run.recipes import recipe_for
from fer_train.train.curves import cosine_rates, curve_scores

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("sure", [0.2, 1.0, 30.0])
def test_scores_are_those_of_keras(sure):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 7, 500)
    one_hot = np.eye(7, dtype=np.float32)[labels]
    logits = sure * (rng.normal(size=(500, 7)) + one_hot)
    answers = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = answers.astype(np.float32)
    found = curve_scores(one_hot, answers)
    for metric in (
        keras.metrics.CategoricalAccuracy("accuracy"),
        keras.metrics.BinaryAccuracy("binary_accuracy"),
        keras.metrics.Precision(name="precision"),
        keras.metrics.Recall(name="recall"),
        keras.metrics.AUC(name="auc"),
    ):
        metric.update_state(one_hot, answers)
        assert found[metric.name] == pytest.approx(float(metric.result()), abs=1e-5), metric.name
    precision, recall = found["precision"], found["recall"]
    assert found["f1"] * (precision + recall) == pytest.approx(2 * precision * recall)


def test_answers_without_a_yes_have_no_precision():
    scores = curve_scores(np.eye(3, dtype=np.float32), np.full((3, 3), 1 / 3, np.float32))
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0, 0, 0)


@pytest.mark.parametrize("warmup", [0.0, 1.5, 10.0])
def test_rates_are_those_of_keras(warmup):
    recipe = recipe_for("modern", "edge", {"warmup_epochs": warmup, "learning_rate": 0.01})
    steps, epochs = 7, 4
    warm = min(int(warmup * steps), steps * epochs // 2)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warm else 0.01,
        steps * epochs - warm,
        warmup_target=0.01 if warm else None,
        warmup_steps=warm,
    )
    expected = [float(schedule(step)) for step in range(steps * epochs)]
    found = np.concatenate([cosine_rates(recipe, steps, epochs, epoch) for epoch in range(epochs)])
    assert found == pytest.approx(expected, abs=1e-7)
