import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex

from fer_edge.contract import EMOTIONS
from fer_train.network.architecture import LayerRow
from fer_train.report import plots
from fer_train.run.metrics import CalibrationBin, ClassCurve

COUNTS = {"angry": 5, "disgust": 0, "happy": 15}


def test_pie_leaves_out_what_does_not_occur():
    (axes,) = plots.pie(COUNTS, "Emotions").axes
    assert [text.get_text() for text in axes.texts] == ["angry\n25.0%", "happy\n75.0%"]


def test_bars_carry_their_numbers():
    (axes,) = plots.count_bars({"angry": 1234, "sad": 2}, "Images").axes
    assert [bar.get_height() for bar in axes.patches] == [1234, 2]
    assert [text.get_text() for text in axes.texts] == ["1,234", "2"]
    assert axes.get_ylabel() == "images"


def test_curves_show_training_and_validation_of_each_measure():
    history = {"epoch": [1, 2]}
    for name in ("auc", "recall"):
        history |= {name: [0.1, 0.2], f"val_{name}": [0.3, 0.4]}
    figure = plots.curves(history, ("auc", "recall"), "fold 0")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "epoch"
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.3, 0.4], [0.1, 0.2]] * 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "auc, validation",
        "auc, training",
        "recall, validation",
        "recall, training",
    ]


@pytest.mark.parametrize(
    ("matrix", "first"), [(np.eye(7), "100%"), (np.eye(7, dtype=int) * 40, "40")]
)
def test_confusion_shows_every_cell(matrix, first):
    (axes,) = plots.confusion(matrix, EMOTIONS, "all").axes
    assert len(axes.texts) == 49
    assert axes.texts[0].get_text() == first
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [text.get_text() for text in axes.get_yticklabels()] == list(EMOTIONS)


def test_class_bars_and_fold_dots_show_every_value():
    scores = {"precision": [0.5] * 7, "recall": [0.25] * 7}
    (axes,) = plots.class_bars(scores, EMOTIONS, "fold").axes
    assert [bar.get_height() for bar in axes.patches] == [0.5] * 7 + [0.25] * 7
    (axes,) = plots.fold_dots({"a": [0.5, 0.6], "b": [0.4]}, "top-1", "top-1").axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]


def test_reliability_shows_the_bins_beside_the_diagonal():
    bins = [CalibrationBin(0.4, 0.3, 0.5), CalibrationBin(0.9, 0.8, 0.5)]
    (axes,) = plots.reliability(bins, "calibration").axes
    assert list(axes.lines[1].get_ydata()) == [0.3, 0.8]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("confidence", "accuracy")


def test_layers_are_boxes_with_name_kind_and_shape():
    rows = [
        LayerRow("image", "InputLayer", (None, 48, 48, 1), 0),
        LayerRow("logits", "Dense", (None, 7), 3591),
    ]
    (axes,) = plots.layer_diagram(rows, "tiny").axes
    texts = [text.get_text() for text in axes.texts]
    assert len(axes.patches) == 2
    assert {"image", "InputLayer", "N x 48 x 48 x 1", "logits", "Dense", "N x 7"} <= set(texts)


@pytest.mark.parametrize("count", [1, 4, 12])
def test_a_page_has_seven_bars_beside_each_picture(count):
    rng = np.random.default_rng(0)
    rows = list(rng.dirichlet(np.ones(7), count).astype(np.float32))
    images = [np.zeros((20, 30, 3), np.uint8)] * count
    names = ["a rather long path/to/a/picture.png"] * count
    figure = plots.prediction_page(images, rows, EMOTIONS, names, [None, "happy"][:1] * count)
    pictures = [axes for axes in figure.axes if axes.images]
    bars = [axes for axes in figure.axes if axes.patches]
    assert (len(pictures), len(bars)) == (count, count)
    assert [bar.get_width() for bar in bars[0].patches] == pytest.approx(rows[0].tolist())
    assert bars[0].get_title() == EMOTIONS[int(rows[0].argmax())]
    assert len(figure.axes) == 2 * count


def test_the_true_emotion_is_named_and_hatched():
    row = np.eye(7, dtype=np.float32)[0]
    image = np.zeros((4, 4), np.uint8)
    figure = plots.prediction_page([image], [row], EMOTIONS, ["x"], ["happy"])
    bars = figure.axes[1]
    assert bars.get_title() == "angry (is happy)"
    assert [bool(bar.get_hatch()) for bar in bars.patches] == [name == "happy" for name in EMOTIONS]


@pytest.mark.parametrize("draw", [plots.to_svg, plots.to_png])
def test_the_same_figure_gives_the_same_bytes(draw):
    first, second = (draw(plots.pie(COUNTS, "Emotions")) for _ in range(2))
    assert first == second


def test_pyplot_and_its_global_state_are_never_loaded():
    code = "import fer_train.report.runs, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_true_emotion_is_hatched_whether_the_answer_is_right_or_not():
    image = np.zeros((8, 8), np.uint8)
    for answer in (0, 1):
        row = np.eye(2, dtype=np.float32)[answer]
        figure = plots.prediction_page([image], [row], ["sad", "happy"], ["a"], ["happy"])
        bars = figure.axes[1].patches
        assert [bool(bar.get_hatch()) for bar in bars] == [False, True]
        assert to_hex(bars[1].get_hatchcolor()).upper() == plots.ORANGE
        assert to_hex(bars[answer].get_facecolor()).upper() == plots.BLUE


def test_mean_curves_have_a_band_and_allow_for_early_stops():
    folds = [
        {"loss": [3.0, 1.0, 0.5], "val_loss": [4.0, 2.0, 1.0]},
        {"loss": [1.0, 1.0], "val_loss": [2.0, 2.0]},
    ]
    (axes,) = plots.mean_curves(folds, "loss", "mean").axes
    validation, training = axes.lines
    assert validation.get_ydata().tolist() == [3, 2, 1]
    assert training.get_ydata().tolist() == [2, 1, 0.5]
    band = axes.collections[0].get_paths()[0].vertices
    at_first = band[band[:, 0] == 1][:, 1]
    # Two values of 4 and 2: 3 and a standard deviation of the root of 2.
    assert (at_first.min(), at_first.max()) == pytest.approx((3 - 2**0.5, 3 + 2**0.5))


def test_curves_of_classes_say_their_areas():
    curve = ClassCurve(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.5)
    figure = plots.class_curves([curve, None], ("sad", "fear"), "ROC", ("x", "y"), diagonal=True)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["sad 0.500"]


def test_heat_lies_on_images_and_gaps_are_said():
    cell = (np.zeros((48, 48), np.uint8), np.ones((48, 48), np.float32), "fear")
    figure = plots.heat_rows([[cell, None]], ("sad", "fear"), ("wrong",), "Grad-CAM")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["sad, said\nfear", "fear"]
    assert [len(axes.images) for axes in figure.axes] == [1, 0, 2, 0]
    assert "none" in [text.get_text() for axes in figure.axes for text in axes.texts]


def test_wrong_answers_are_crosses_in_the_plane():
    points = np.zeros((3, 2), np.float32)
    right = np.array([True, False, True])
    figure = plots.embedding(points, np.array([0, 0, 1]), right, ("sad", "fear"), "t-SNE")
    (axes,) = figure.axes
    assert [len(group.get_offsets()) for group in axes.collections] == [1, 1, 1, 0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sad", "fear"]
