import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from fer_edge.contract import EMOTIONS
from fer_train.report.thesis import PUBLISHED, published
from fer_train.run.metrics import (
    Spread,
    binary_accuracy,
    binary_accuracy_from,
    calibration,
    classification_metrics,
    expected_calibration_error,
    holm,
    mcnemar,
    normalise_confusion,
    paired_test,
    precision_recall_curves,
    roc_curves,
    seed_spread,
    spread,
)
from tests.support.predictions import drawn_predictions


@pytest.fixture
def predictions():
    return drawn_predictions()


def test_the_scores_are_those_of_scikit_learn(predictions):
    labels, probabilities = predictions
    scores = classification_metrics(labels, probabilities)
    answers = probabilities.argmax(axis=1)
    expected = sk.classification_report(
        labels, answers, target_names=EMOTIONS, output_dict=True, zero_division=0
    )
    assert scores["accuracy"] == pytest.approx(expected["accuracy"])
    assert scores["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, answers))
    assert scores["log_loss"] == pytest.approx(sk.log_loss(labels, probabilities), rel=1e-5)
    assert scores["auc_macro"] == pytest.approx(
        sk.roc_auc_score(labels, probabilities, multi_class="ovr"), rel=1e-6
    )
    for average in ("macro", "weighted"):
        row = expected[f"{average} avg"]
        for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert scores[f"{name}_{average}"] == pytest.approx(row[key])
    assert scores["recall"][3] == pytest.approx(expected["happy"]["recall"])
    assert np.sum(scores["confusion"]) == scores["images"] == 400


def test_saying_nothing_for_sure_scores_six_sevenths_of_binary_accuracy():
    labels = np.arange(7)
    probabilities = np.full((7, 7), 1 / 7, np.float32)
    scores = classification_metrics(labels, probabilities)
    assert scores["binary_accuracy"] == pytest.approx(6 / 7)
    assert scores["recall_at_half"] == scores["precision_at_half"] == scores["f1_at_half"] == 0


def test_recall_and_precision_imply_the_binary_accuracy(predictions):
    labels, probabilities = predictions
    scores = classification_metrics(labels, probabilities)
    implied = binary_accuracy_from(scores["recall_at_half"], scores["precision_at_half"])
    assert implied == pytest.approx(binary_accuracy(labels, probabilities), abs=1e-9)


@pytest.mark.parametrize(
    ("recall", "precision", "implied"),
    [(0.41, 0.76, 0.897), (0.17, 0.67, 0.869), (0.12, 0.60, 0.863)],
)
def test_the_published_recall_and_precision_imply_a_binary_accuracy(recall, precision, implied):
    assert binary_accuracy_from(recall, precision) == pytest.approx(implied, abs=5e-4)


@pytest.mark.parametrize("entry", PUBLISHED, ids=lambda entry: f"{entry.model}-{entry.form}")
def test_what_the_thesis_prints_as_accuracy_is_binary_accuracy(entry):
    # Its recall and precision are printed as whole percent, and so is the jpg form's accuracy.
    implied = binary_accuracy_from(entry.recall, entry.precision)
    assert implied == pytest.approx(entry.binary_accuracy, abs=0.004)
    assert entry.accuracy < entry.binary_accuracy - 0.2


@pytest.mark.parametrize("model", ["sequential", "vgg16", "resnet50"])
def test_the_published_figures_agree_with_one_another(model):
    entry = published(model)[0]
    assert entry.form == "csv"
    assert np.mean(entry.fold_accuracy) == pytest.approx(entry.binary_accuracy, abs=1e-4)
    assert np.std(entry.fold_accuracy) == pytest.approx(entry.sd, abs=2e-5)
    assert np.mean(entry.fold_loss) == pytest.approx(entry.loss, abs=0.006)
    rows = [entry.of_class(emotion) for emotion in EMOTIONS]
    hits = sum(row.recall * row.support for row in rows)
    assert hits / sum(row.support for row in rows) == pytest.approx(entry.accuracy, abs=0.01)


def test_a_confident_liar_is_badly_calibrated():
    labels = np.zeros(10, np.int64)
    probabilities = np.tile(np.array([0.1, 0.9], np.float32), (10, 1))
    assert expected_calibration_error(labels, probabilities) == pytest.approx(0.9, abs=1e-6)
    assert [bin.share for bin in calibration(labels, probabilities)] == [1.0]


def test_a_set_of_one_emotion_has_no_auc():
    probabilities = np.full((4, 7), 1 / 7, np.float32)
    scores = classification_metrics(np.zeros(4, np.int64), probabilities)
    assert np.isnan(scores["auc_macro"])
    assert scores["recall_macro"] == scores["balanced_accuracy"] == 1.0


@pytest.mark.parametrize(
    ("labels", "rows", "message"), [(3, 4, r"\(3,\) and \(4, 7\)"), (0, 0, "at least one image")]
)
def test_what_does_not_fit_together_is_refused(labels, rows, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(np.zeros(labels, np.int64), np.zeros((rows, 7), np.float32))


def test_a_class_without_images_stays_zero_in_the_normalised_confusion():
    matrix = normalise_confusion(np.array([[3, 1], [0, 0]]))
    assert matrix.tolist() == [[0.75, 0.25], [0.0, 0.0]]


def test_the_spread_is_that_of_a_sample():
    assert spread([1.0, 3.0]) == Spread(2.0, pytest.approx(2**0.5))
    assert spread([1.0]) == Spread(1.0, None)


def test_the_correction_makes_the_paired_test_more_careful():
    first, second = [0.62, 0.64, 0.61, 0.66, 0.63], [0.60, 0.61, 0.60, 0.62, 0.62]
    plain = stats.ttest_rel(first, second)
    uncorrected = paired_test(first, second, test_share=0.0)
    assert (uncorrected.t, uncorrected.p) == pytest.approx((plain.statistic, plain.pvalue))
    corrected = paired_test(first, second, test_share=0.25)
    # Nadeau and Bengio: 1/k becomes 1/k + n_test/n_train.
    assert corrected.t == pytest.approx(plain.statistic * (0.2 / 0.45) ** 0.5)
    assert corrected.p > uncorrected.p


def test_equal_models_do_not_differ_and_one_fold_tells_nothing():
    assert paired_test([0.5, 0.6], [0.5, 0.6], 0.1).p == 1.0
    assert paired_test([0.5], [0.6], 0.1) is None
    with pytest.raises(ValueError, match="as many scores"):
        paired_test([0.5], [0.6, 0.7], 0.1)


def test_holm_adjusts_for_the_number_of_tests():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_mcnemar_counts_images_that_one_alone_is_right_about():
    first = np.array([True] * 9 + [False] * 1 + [True] * 50)
    second = np.array([False] * 9 + [True] * 1 + [True] * 50)
    # Of ten images nine or more on one side: 2 (10 + 1) / 2^10.
    assert mcnemar(first, second) == (9, 1, pytest.approx(22 / 1024))
    assert mcnemar(second, first) == (1, 9, pytest.approx(22 / 1024))
    assert mcnemar(first, first) == (0, 0, 1.0)


def test_the_spread_of_seeds_is_told_from_that_of_folds():
    by_fold = seed_spread(np.array([[0.5, 0.6, 0.7], [0.5, 0.6, 0.7]]))
    assert by_fold == (pytest.approx(0.6), pytest.approx(0.1), 0, 0)
    by_seed = seed_spread(np.array([[0.5, 0.5], [0.7, 0.7]]))
    sd = pytest.approx(np.sqrt(0.02))
    assert by_seed == (pytest.approx(0.6), 0, sd, sd)
    # Seeds that differ in each fold but not on the whole.
    mixed = seed_spread(np.array([[0.5, 0.7], [0.7, 0.5]]))
    assert mixed == (pytest.approx(0.6), pytest.approx(0), sd, pytest.approx(0))
    assert seed_spread(np.array([[0.5]])) == (0.5, None, None, None)


def test_curves_of_classes_are_those_of_scikit_learn(predictions):
    labels, probabilities = predictions
    # A class that nobody has.
    labels = np.where(labels == 6, 5, labels)
    roc, precision = (
        roc_curves(labels, probabilities),
        precision_recall_curves(labels, probabilities),
    )
    assert roc[6] is precision[6] is None
    own = labels == 2
    assert roc[2].area == pytest.approx(sk.roc_auc_score(own, probabilities[:, 2]))
    assert precision[2].area == pytest.approx(sk.average_precision_score(own, probabilities[:, 2]))
    assert (roc[2].x[0], roc[2].y[0], roc[2].x[-1], roc[2].y[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(roc[2].x) >= 0) and np.all(np.diff(roc[2].y) >= 0)


def test_curves_of_many_images_keep_their_shape_in_few_points():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    values = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1).astype(np.float32)
    probabilities = np.stack([1 - values, values], axis=1)
    for curves in (roc_curves, precision_recall_curves):
        curve = curves(labels, probabilities)[1]
        assert curve.x.size < 200
        assert sk.auc(curve.x, curve.y) == pytest.approx(curve.area, abs=0.01)
