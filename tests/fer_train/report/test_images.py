"""Reports with images of the data set: only where asked for, and the right ones."""

import numpy as np
import pytest
from click.testing import CliRunner

from fer_train.cli import main
from fer_train.report import plots
from fer_train.report.images import image_blocks
from fer_train.run.evaluation import evaluate_model
from fer_train.run.folder import open_run
from tests.support.fake_runs import made_dataset, make_run


def pictures(blocks):
    found = {}
    for block in blocks:
        for each in block.blocks:
            for picture in getattr(each, "pictures", ()):
                found[picture.name] = picture
    return found


@pytest.fixture
def grids(monkeypatch):
    """Keep what is shown in grids of images."""
    shown = []
    own = plots.image_grid

    def keep(images, names, columns, title):
        shown.append((title, list(names), [image[0, 0] for image in images]))
        return own(images, names, columns, title)

    monkeypatch.setattr(plots, "image_grid", keep)
    return shown


def test_the_surest_errors_come_first(tmp_path, grids):
    run = make_run(tmp_path / "run", images=140)
    evaluation = evaluate_model(run, "sequential")
    labels = evaluation.predictions.labels
    dataset = made_dataset(labels, evaluation.labels)
    # Each image is known by its level.
    dataset.images[:] = np.arange(140, dtype=np.uint8)[:, None, None]
    found = pictures(image_blocks(evaluation, dataset, "sequential", "key"))
    assert set(found) == {"key-errors"}
    ((title, names, levels),) = grids
    assert title == "sequential: surest errors" and len(names) == 24
    confidence = evaluation.predictions.probabilities.max(axis=1)
    wrong = ~evaluation.predictions.right
    assert wrong[levels].all()
    assert confidence[levels].tolist() == sorted(confidence[wrong], reverse=True)[:24]
    first = levels[0]
    answer = evaluation.predictions.probabilities[first].argmax()
    true, said = evaluation.labels[labels[first]], evaluation.labels[answer]
    assert names[0] == f"{true}, said\n{said} {confidence[first]:.0%}"


def test_disputed_images_stand_above_the_answer(tmp_path, grids):
    from dataclasses import replace

    run = make_run(tmp_path / "run", images=140)
    evaluation = evaluate_model(run, "sequential")
    votes = np.zeros((140, 10), np.int64)
    votes[:, 0] = 10
    votes[7, :5] = 2
    dataset = replace(made_dataset(evaluation.predictions.labels, evaluation.labels), votes=votes)
    found = pictures(image_blocks(evaluation, dataset, "sequential", "key"))
    assert set(found) == {"key-errors", "key-disputed"}
    _, names, _ = grids[1]
    answer = evaluation.labels[evaluation.predictions.probabilities[7].argmax()]
    assert len(names) == 1 and names[0].endswith(f"model: {answer}")


@pytest.mark.tensorflow
def test_images_are_shown_where_asked_for_alone(tmp_path):
    run = tmp_path / "run"
    plan = ("--data", "synthetic:140", "--models", "sequential", "--folds", "2", "--epochs", "1")
    runner = CliRunner()
    trained = runner.invoke(main, ["all", *plan, "--run", str(run), "--no-export"])
    assert trained.exit_code == 0, trained.output
    plain = runner.invoke(main, ["report", str(run), "--output", str(tmp_path / "plain")])
    assert plain.exit_code == 0, plain.output
    # Without pixels of the data set, every picture is drawn from numbers.
    assert not list((tmp_path / "plain/pictures").glob("*.png"))
    shown = runner.invoke(main, ["report", str(run), "--images", "--output", str(tmp_path / "all")])
    assert shown.exit_code == 0, shown.output
    assert {path.name for path in (tmp_path / "all/pictures").glob("*.png")} == {
        "sequential-errors.png",
        "sequential-grad-cam.png",
        "sequential-embedding.png",
    }
    assert "Grad-CAM (Selvaraju et al., 2017)" in (tmp_path / "all/report.md").read_text()
    assert len(open_run(run).fold("sequential", 0).record) == 1
    text = (tmp_path / "all/report.md").read_text()
    assert "sequential: `fer-train all --data synthetic:140 --models sequential --folds 2" in text
    assert "| wall time, s | " in text


def test_data_are_for_images(tmp_path):
    run = make_run(tmp_path / "run", folds=2)
    result = CliRunner().invoke(main, ["report", str(run.folder), "--data", "synthetic"])
    assert result.exit_code == 2 and "--data is for --images" in result.stderr


def test_images_of_other_data_are_refused(tmp_path):
    run = make_run(tmp_path / "run", folds=2)
    arguments = ["report", str(run.folder), "--images", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "Expected the data set that" in result.stderr
    assert not (tmp_path / "out").exists()
