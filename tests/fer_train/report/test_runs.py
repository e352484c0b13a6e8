import html.parser
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from fer_train.cli import main
from fer_train.network.architecture import layer_rows
from fer_train.report.document import (
    Document,
    Gallery,
    Heading,
    Picture,
    Table,
    Text,
    save,
    to_html,
)
from fer_train.report.runs import build_report
from fer_train.run.evaluation import evaluate_model, evaluate_run
from fer_train.run.folder import open_run
from tests.support.fake_runs import make_run

VOID = {"meta", "img", "link", "br"}


class Page(html.parser.HTMLParser):
    """Checks that tags nest, and collects what pages are made of."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.ids, self.links, self.text = [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(values)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if "href" in values else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def report(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    make_run(folder / "csv", ("sequential", "vgg16"), recipe="thesis")
    make_run(folder / "jpg", folds=2, drop=("disgust",), images=120)
    result = report(folder / "csv", folder / "jpg", "--output", folder / "out")
    assert result.exit_code == 0, result.output
    return folder / "out", result


def test_the_page_is_whole_and_needs_nothing_else(built):
    folder, result = built
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.images
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in page.images)
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)
    assert 'name="viewport"' in text and "@media print" in text and "color-scheme: light" in text
    assert str(folder / "report.html") in result.stdout


def test_markdown_refers_to_pictures_that_are_there(built):
    folder, _ = built
    text = (folder / "report.md").read_text()
    names = re.findall(r"!\[[^\]]+\]\((pictures/[^)]+)\)", text)
    # Per fold: three kinds of curves, confusion and classes; per model nine pictures; one of all.
    assert len(names) == len(set(names)) == 8 * 5 + 3 * 9 + 1
    assert {path.name for path in (folder / "pictures").iterdir()} == {
        name.removeprefix("pictures/") for name in names
    }


def test_the_thesis_stands_beside_ours(built):
    folder, _ = built
    text = (folder / "report.md").read_text()
    ours = next(line for line in text.splitlines() if line.startswith("| csv: sequential |"))
    scores = evaluate_model(open_run(folder.parent / "csv"), "sequential").spread("log_loss")
    assert f"| {scores.mean + 0.25:.4f} ± " in ours
    assert "| - thesis, csv | 10 | 89.67% ± 0.19 | 59.00% | 1.270 | 41.00% | 76.00% |" in text
    assert "| - thesis, jpg | 1 | 88.00% | 57.61% | 1.750 |" in text
    assert "| happy | " in text and "| 0.77 | 0.82 | 0.80 |" in text
    assert "Kirkvik" in text
    # One of the runs leaves an emotion out.
    assert "Predicting nothing at all scores 5/6 = 83.33% or 6/7 = 85.71% there" in text


def test_runs_stand_side_by_side_with_their_settings(built):
    folder, _ = built
    text = (folder / "report.md").read_text()
    assert "| score | csv: sequential | csv: vgg16 | jpg: sequential |" in text
    assert "| recipe | thesis | thesis | modern |" in text
    assert "| left out | nothing | disgust |" in text
    assert "| device | tensorflow on cpu:0 | tensorflow on cpu:0 | tensorflow on cpu:0 |" in text
    # The runs have other folds, so only the two models of the first are tested.
    assert text.count("csv: sequential - csv: vgg16 | 3 |") == 1
    assert "Nadeau and Bengio" in text
    # Six classes of the second run, and no row for what was left out.
    jpg = text[text.index("## jpg: sequential") :]
    assert "| disgust |" not in jpg


def test_runs_of_one_name_are_told_apart(tmp_path):
    for place in ("one/m", "two/m"):
        make_run(tmp_path / place / "run")
    out = tmp_path / "out"
    result = report(tmp_path / "one/m/run", tmp_path / "two/m/run", "--output", out)
    assert result.exit_code == 0, result.output
    text = (out / "report.md").read_text()
    assert "| score | one/m/run: sequential | two/m/run: sequential |" in text
    assert "| setting | one/m/run | two/m/run |" in text
    assert len(list(out.glob("*-predictions.csv"))) == 2
    before = set((out / "pictures").iterdir())
    (out / "pictures" / "mine.txt").touch()
    twice = report(tmp_path / "one/m/run", tmp_path / "one/m/../m/run", "--output", out)
    assert twice.exit_code == 0
    assert "| score | sequential |" in (out / "report.md").read_text()
    # What the report before had besides is gone; what others put there stays.
    assert [path.name for path in out.glob("*-predictions.csv")] == ["sequential-predictions.csv"]
    gone = [path for path in before if "two-m-run" in path.name]
    assert gone and not any(path.exists() for path in gone)
    assert (out / "pictures" / "mine.txt").is_file()


def test_merged_predictions_lie_beside_the_report(built):
    folder, _ = built
    assert len((folder / "csv-vgg16-predictions.csv").read_text().splitlines()) == 141
    assert len((folder / "jpg-sequential-predictions.csv").read_text().splitlines()) == 121


def test_the_same_runs_give_the_same_bytes(tmp_path):
    run = make_run(tmp_path / "run", folds=2, images=70)
    paths = [save(build_report(evaluate_run(run)), tmp_path / name, "report") for name in "ab"]
    for first, second in zip(*paths, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_one_run_has_short_names_and_one_fold_no_spread(tmp_path):
    run = make_run(tmp_path / "run", folds=2, images=70)
    (run.fold("sequential", 1).folder / "metrics.json").unlink()
    refused = report(run.folder, "--output", tmp_path / "out")
    assert refused.exit_code == 1
    assert "missing 1; start fer-train all" in refused.stderr
    assert not (tmp_path / "out").exists()
    result = report(run.folder, "--partial", "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| score | sequential |" in text
    assert "| folds | 1 of 2 |" in text
    assert "| top-1 | " in text and "Which models differ" not in text


def test_a_model_without_epochs_has_no_curves(tmp_path):
    run = make_run(tmp_path / "run", folds=2, images=70)
    for index in range(2):
        (run.fold("sequential", index).folder / "history.csv").unlink()
    assert report(run.folder, "--output", tmp_path / "out").exit_code == 0
    assert not list((tmp_path / "out" / "pictures").glob("*-loss.svg"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.json").unlink(), "Expected a run folder of fer-train"),
        (
            lambda run: (run / "sequential/fold-00/predictions.npz").write_bytes(b"x" * 99),
            "received a damaged file",
        ),
        (
            lambda run: (run / "sequential/fold-01/metrics.json").write_text("{"),
            "Expected a file that fer-train wrote",
        ),
    ],
)
def test_a_damaged_run_is_one_clear_line(tmp_path, damage, message):
    run = make_run(tmp_path / "run", folds=2, images=70)
    damage(run.folder)
    result = report(run.folder, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.stderr and "Traceback" not in result.stderr


def test_a_run_that_is_not_there_is_wrong_usage(tmp_path):
    assert report(tmp_path / "none").exit_code == 2


def test_an_output_that_cannot_be_written_is_one_clear_line(tmp_path):
    run = make_run(tmp_path / "run", folds=2, images=70)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pictures").write_text("a file")
    result = report(run.folder, "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "Cannot write" in result.stderr


def test_cells_and_captions_are_escaped():
    blocks = [
        Heading("A & <B>"),
        Text("use `a<b`"),
        Table("x|y", ["a|b", "c"], [["<i>", "2"]]),
        Gallery([Picture("p", 'say "cheese"', b"<svg/>")]),
    ]
    text = to_html(Document("<T>", blocks))
    page = Page(text)
    assert "<i>" in page.text and "A & <B>" in page.text
    assert "<code>a&lt;b</code>" in text
    assert page.images[0]["alt"] == 'say "cheese"'


def test_a_run_folder_copied_elsewhere_reports_the_same(tmp_path):
    run = make_run(tmp_path / "run", folds=2, images=70)
    shutil.copytree(run.folder, tmp_path / "b" / "run")
    report(run.folder, "--output", tmp_path / "1")
    report(tmp_path / "b" / "run", "--output", tmp_path / "2")
    assert (tmp_path / "1/report.md").read_text() == (tmp_path / "2/report.md").read_text()


@pytest.mark.tensorflow
def test_the_rows_of_a_diagram_are_the_layers_in_order():
    from fer_train.network._keras import keras
    from fer_train.network.models import build_model
    from fer_train.run.recipes import recipe_for

    net = build_model("sequential", recipe_for("thesis", "sequential"), 7)
    rows = layer_rows(net)
    assert sum(row.parameters for row in rows) == net.count_params() == 3_670_535
    kinds = [row.kind for row in rows]
    assert kinds[0] == "InputLayer" and kinds.count("InputLayer") == 1
    assert kinds.count("Conv2D") == 4 and kinds[-1] == "Softmax"
    assert rows[-1].shape == (None, 7)
    image = keras.Input((8,))
    deep = image
    for name in ("conv2_block1_1_dense", "conv2_block1_2_dense", "conv2_block2_1_dense"):
        deep = keras.layers.Dense(3, name=name)(deep)
    shown = [(row.name, row.kind, row.parameters) for row in layer_rows(keras.Model(image, deep))]
    assert shown[1:] == [
        ("conv2_block1", "block of 2 layers", 27 + 12),
        ("conv2_block2", "Dense", 12),
    ]


@pytest.mark.tensorflow
def test_the_report_of_a_network_shows_its_layers(tmp_path):
    from fer_train.network._keras import keras

    run = make_run(tmp_path / "run", folds=2, images=70)
    net = keras.Sequential([keras.Input((48, 48, 1)), keras.layers.Flatten(name="flat")])
    net.save(run.fold("sequential", 0).folder / "model.keras")
    assert report(run.folder, "--output", tmp_path / "out").exit_code == 0
    svg = (tmp_path / "out/pictures/sequential-layers.svg").read_text()
    assert ">flat<" in svg and ">N x 2304<" in svg


def test_curves_of_a_fold_come_from_its_history(tmp_path):
    run = make_run(tmp_path / "run", folds=2, images=70)
    (first, _) = evaluate_run(run)[0].folds
    assert np.all((first.curves["val_auc"] >= 0.2) & (first.curves["val_auc"] <= 0.9))
