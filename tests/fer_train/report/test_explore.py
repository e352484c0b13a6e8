import csv

import numpy as np
import pytest
from click.testing import CliRunner

from fer_edge.contract import EMOTIONS
from fer_train.cli import main
from fer_train.data.load import Dataset
from fer_train.report.document import save, to_markdown
from fer_train.report.explore import explore_dataset
from tests.support.made_votes import drawn_votes, write_drawn_votes


@pytest.fixture
def dataset():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (40, 6, 6)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    images[7] = images[0]  # a copy of the same label
    images[8] = images[1]  # a copy of another label
    images[20] = 0
    labels = np.arange(40) % 7
    labels[8] = 5
    usage = np.asarray(["Training"] * 30 + ["PublicTest"] * 10)
    names = np.asarray([f"row {number}" for number in range(40)])
    return Dataset(images, labels, usage, names, name="made")


def test_copies_conflicts_and_blanks_are_counted_and_named(dataset):
    document = explore_dataset(dataset)
    text = to_markdown(document)
    assert "| groups of copies | 2 | 2 |" in text
    assert "| groups with conflicting labels | 1 | 1 |" in text
    assert "Blank images, which show nothing: 1." in text
    rows = list(csv.DictReader(document.attachments["findings.csv"].splitlines()))
    assert [row["name"] for row in rows] == ["row 0", "row 7", "row 1", "row 8", "row 20"]
    assert [row["conflicting"] for row in rows] == ["0", "0", "1", "1", "0"]
    assert [row["blank"] for row in rows] == ["0", "0", "0", "0", "1"]


def test_shapes_counts_and_first_rows_are_shown(dataset):
    text = to_markdown(explore_dataset(dataset))
    assert "| images | 40 x 48 x 48 | uint8 | 0 to 255 |" in text
    assert "| all | 40 | 100.0% | 30 | 10 |" in text
    pixels = " ".join(map(str, dataset.images[0].ravel()[:8]))
    assert f"| row 0 | angry | 0 | Training | {pixels} |" in text


def test_pictures_show_samples_shares_and_faults(dataset, tmp_path):
    save(explore_dataset(dataset), tmp_path, "explore")
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        *("samples.png", "emotions.svg", "usages.svg", "counts.svg"),
        *("identical.png", "conflicting.png", "blank.png"),
    }


def test_the_command_works_on_drawn_faces(tmp_path):
    arguments = ["explore", "--data", "synthetic:42", "--output", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [
        str(tmp_path / name)
        for name in ("explore.md", "explore.html", "findings.csv", "summary.json")
    ]


def test_data_that_is_not_there_is_one_clear_line(tmp_path):
    result = CliRunner().invoke(main, ["explore", "--data", str(tmp_path / "none.csv")])
    assert result.exit_code == 1
    assert "does not exist" in result.stderr and "Traceback" not in result.stderr


def test_votes_are_shown_beside_the_labels(tmp_path):
    counts = drawn_votes(42)
    votes = write_drawn_votes(tmp_path / "votes.csv", counts[:-1])
    out = tmp_path / "out"
    arguments = ["explore", "--data", "synthetic:42", "--votes", str(votes), "--output", str(out)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    text = (out / "explore.md").read_text()
    shares = counts[:-1] / 10
    two = np.mean((counts[:-1] * (counts[:-1] - 1)).sum(axis=1) / 90)
    labels = np.arange(41) % 7
    assert f"| agreement of two raters | {two:.3f} |" in text
    assert f"| ceiling of agreement | {shares.max(axis=1).mean():.3f} |" in text
    own = shares[np.arange(41), labels].mean()
    assert f"| agreement of the data set's labels with a rater | {own:.3f} |" in text
    assert "| images with known votes | 41 |" in text
    assert "| kept out: without known votes | 1 |" in text
    # People saw the emotion after the label.
    row = next(line for line in text.splitlines() if line.startswith("| angry | 14.3% |"))
    assert int(row.split("|")[5]) >= 5 and int(row.split("|")[4]) == 0
    assert (out / "pictures" / "disputed.png").is_file()
    rows = list(csv.DictReader((out / "votes.csv").read_text().splitlines()))
    assert len(rows) == 41
    assert rows[0]["name"] == "synthetic 0" and rows[0]["emotion"] == "angry"
    assert [int(rows[3][emotion]) for emotion in EMOTIONS] == counts[3].tolist()
