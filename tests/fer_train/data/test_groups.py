"""People and clips: told by names or a csv, kept on one side of every split."""

import json

import numpy as np
import pytest

from fer_edge.errors import DataError
from fer_train.data.duplicates import joined_groups
from fer_train.data.folds import holdout_fold, make_folds
from fer_train.data.groups import read_groups, suspected_groups
from fer_train.data.load import load_dataset
from fer_train.run.folder import open_run
from fer_train.run.plan import load_run_images
from tests.support.trainer import invoke


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ("ckplus", {"anger/S010_004_00000017.png": "S010", "happy/S999_001_00000003.png": "S999"}),
        ("JAFFE", {"happy/KA.HA1.29.tiff": "KA", "sad/ym.sa2.1.tiff": "ym"}),
        ("kdef", {"angry/AF01ANS.JPG": "F01", "fear/BM35AFHL.JPG": "M35"}),
        (
            "frames",
            {
                "happy/clip12_0003.png": "clip12",
                "sad/a b-frame0004.jpg": "a b",
                "sad/S010_004_00000017.png": "S010_004",
                "v/v1.f12.png": "v1",
                "person-003_clip-012_frame-0004": "person-003_clip-012",
            },
        ),
        (r"person-\d+", {"person-003_clip-012_frame-0004": "person-003"}),
        (r"^([^/]+)/", {"anna/happy/1.png": "anna", "bo/sad/1.png": "bo"}),
    ],
)
def test_names_tell_groups(groups, names):
    assert read_groups(groups, np.array(list(names))).tolist() == list(names.values())


@pytest.mark.parametrize(
    ("groups", "name", "message"),
    [
        ("frames", "happy/0001.png", "none of 1 of 1, such as happy/0001.png"),
        ("kdef", "happy/KA.HA1.29.tiff", "none of 1 of 1"),
        ("(x)?", "happy/a.png", "none of 1 of 1"),
        (
            "(",
            "happy/a.png",
            "Expected groups of ckplus, jaffe, kdef, frames, a .csv, or a",
        ),
    ],
)
def test_names_that_tell_nothing_are_refused(groups, name, message):
    with pytest.raises(DataError) as refused:
        read_groups(groups, np.array([name]))
    assert message in refused.value.message


def test_a_csv_tells_groups_by_the_ends_of_paths(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("file,age,subject\n1.png,9,anna\ndata/sad/2.png,9,bo\n\nelse/9.png,1,cy\n")
    assert read_groups(str(path), np.array(["happy/1.png", "sad/2.png"])).tolist() == ["anna", "bo"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "expected the columns file and group, received a, b"),
        ("", "received an empty file"),
        ("file,group\nhappy/1.png,x\n", "none of 1 of 2, such as sad/1.png"),
        ("file,group\n1.png,x\n", "row 1: expected the path of one image, received '1.png', which"),
        ("file,group\nhappy/1.png\n", "row 1: expected the fields of the header"),
        ("file,group\nsad/1.png,x\nsad/1.png,y\n", "row 2: expected one group of 'sad/1.png'"),
    ],
)
def test_a_csv_of_something_else_is_refused(tmp_path, text, message):
    path = tmp_path / "people.csv"
    path.write_text(text)
    with pytest.raises(DataError) as refused:
        read_groups(str(path), np.array(["happy/1.png", "sad/1.png"]))
    assert message in refused.value.message


def test_groups_that_share_copies_become_one():
    copies = np.array([0, 1, 2, 2, 3, 4])
    people = np.array([0, 0, 1, 2, 2, 3])
    assert joined_groups(copies, people).tolist() == [0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("count", [2, 5])
def test_no_person_is_in_two_parts_of_a_fold(count):
    rng = np.random.default_rng(0)
    people = rng.integers(0, 12, 400)
    labels = rng.integers(0, 7, 400)
    folds = make_folds(labels, people, count, grouping="given", inner=0.2, seed=1)
    assert np.array_equal(np.sort(np.concatenate([f.test for f in folds])), np.arange(400))
    for fold in folds:
        parts = [set(people[part]) for part in (fold.train, fold.inner, fold.test)]
        assert all(parts)
        assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
        # About a fifth, as people allow it, though each shows all classes.
        assert 0.1 < fold.inner.size / (fold.inner.size + fold.train.size) < 0.4


def test_a_person_who_is_tested_does_not_train_in_the_data_sets_own_split():
    usage = np.array(["Training"] * 8 + ["PublicTest"] * 2)
    people = np.array([0, 0, 1, 1, 2, 2, 3, 3, 3, 4])
    fold = holdout_fold(np.arange(10) % 2, people, usage, grouping="given", inner=0, seed=0)
    assert fold.train.tolist() == [0, 1, 2, 3, 4, 5]


def test_too_few_people_are_a_clear_error():
    labels = np.arange(40) % 2
    with pytest.raises(DataError, match="and 3 groups in all; use fewer --folds"):
        make_folds(labels, np.arange(40) // 14, 4, grouping="given", inner=0, seed=0)
    with pytest.raises(DataError, match="two groups or more to train on and to steer by"):
        make_folds(labels, np.arange(40) // 20, 2, grouping="given", inner=0.1, seed=0)


# --- drawn people ---------------------------------------------------------------------------------


def test_drawn_clips_are_of_one_person_with_one_emotion():
    dataset = load_dataset("synthetic:60,people=2,clips=28", groups="frames")
    assert len(set(dataset.groups.tolist())) == 28
    assert dataset.names[30] == "person-000_clip-002_frame-0001"
    for clip in set(dataset.groups.tolist()):
        assert len(set(dataset.labels[dataset.groups == clip].tolist())) == 1
    people = read_groups(r"person-\d+", dataset.names)
    # Each of the two shows each emotion.
    assert len({*zip(people.tolist(), dataset.labels.tolist(), strict=True)}) == 14
    less = load_dataset("synthetic:30,people=2,clips=28")
    assert np.array_equal(less.images, dataset.images[:30])
    frames = dataset.images[dataset.groups == "person-000_clip-000"].astype(np.float64)
    likeness = np.corrcoef(frames.reshape(len(frames), -1))
    assert 0.6 < likeness[0, 1] < 0.999


@pytest.mark.parametrize("source", ["synthetic:9,people=0", "synthetic:9,dogs=2", "synthetic:,x"])
def test_what_cannot_be_drawn_is_refused(source):
    with pytest.raises(DataError, match=",people=N or ,clips=N behind"):
        load_dataset(source)


def test_clips_on_both_sides_make_scores_too_good(tmp_path):
    scores = {}
    for name, flags in {"torn": (), "whole": ("--groups", "frames")}.items():
        run = tmp_path / name
        result = invoke(
            *("all", "--data", "synthetic:280,clips=28", "--models", "svm", "--folds", "4"),
            *("--grouping", "none", "--no-export", "--run", str(run), *flags),
        )
        assert result.exit_code == 0, result.output
        told = "warning: images seem to be of few people" if name == "torn" else "28 groups of 280"
        assert told in result.stderr
        scores[name] = np.mean([score["accuracy"] for score in open_run(run).scores("svm")])
    assert scores["torn"] > 0.95
    assert scores["whole"] < 0.8
    whole = open_run(tmp_path / "whole")
    for fold in whole.folds:
        train = {*whole.groups[fold.train], *whole.groups[fold.inner]}
        assert not train & set(whole.groups[fold.test])
    # The run keeps them, for whoever trains it elsewhere.
    assert np.array_equal(load_run_images(whole).groups, whole.groups)
    other = invoke(
        *("plan", "--data", "synthetic:280,clips=28", "--models", "svm", "--folds", "4"),
        *("--grouping", "none", "--groups", "clip-(..)", "--run", str(tmp_path / "whole")),
    )
    assert other.exit_code == 1
    assert "other groups: frames there, clip-(..) asked for" in other.stderr
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["protocol"]["groups"] == "frames"


# --- what looks like people or clips -------------------------------------------------------------


def noise(count):
    return np.random.default_rng(0).integers(0, 256, (count, 48, 48), np.uint8)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([f"anger/S{n:03}_001_{m:08}.png" for n in range(20) for m in (1, 2)], "--groups ckplus"),
        ([f"happy/KA.HA{n}.{n}.tiff" for n in range(40)], "--groups jaffe"),
        ([f"happy/AF{n:02}HAS.JPG" for n in range(40)], "--groups kdef"),
        ([f"happy/clip{n}_{m:03}.png" for n in range(8) for m in range(5)], "--groups frames"),
        ([f"happy/{n:03}.png" for n in range(40)], None),
        ([f"train/happy/Training_{n * 7919}.jpg" for n in range(40)], None),
        ([f"{'sad' if n % 2 else 'happy'}/im{n}.png" for n in range(40)], None),
        ([f"row {n}" for n in range(40)], None),
    ],
)
def test_names_of_people_and_frames_are_noticed(names, said):
    reason = suspected_groups(np.array(names), noise(40), np.zeros(40, np.int64))
    assert reason is None if said is None else said in reason


def test_frames_are_noticed_by_themselves_whatever_their_names():
    dataset = load_dataset("synthetic:140,clips=14", groups="frames")
    order = np.argsort(dataset.groups, kind="stable")
    names = np.array([f"happy/{n:03}.png" for n in range(140)])
    said = suspected_groups(names, dataset.images[order], dataset.labels[order])
    assert "more like the one before it" in said
    drawn = load_dataset("synthetic:140")
    order = np.argsort(drawn.labels, kind="stable")
    assert suspected_groups(names, drawn.images[order], drawn.labels[order]) is None
