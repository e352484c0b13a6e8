import shutil
from dataclasses import replace

import numpy as np
import pytest

from fer_edge.errors import RunError
from fer_train.run.comparison import Comparison, SeedGroup, compare_models, group_seeds
from fer_train.run.evaluation import (
    evaluate_model,
    evaluate_run,
    merge_predictions,
    predictions_csv,
)
from fer_train.run.folder import digest_of, read_arrays, write_arrays
from fer_train.run.metrics import paired_test
from tests.support.fake_runs import make_run


def test_all_images_are_evaluated_once_and_scores_are_means_over_folds(tmp_path):
    run = make_run(tmp_path / "run", images=140)
    evaluation = evaluate_model(run, "sequential")
    assert evaluation.is_complete
    assert evaluation.predictions.index.tolist() == list(range(140))
    assert evaluation.predictions.labels.tolist() == [index % 7 for index in range(140)]
    assert evaluation.merged["images"] == 140
    by_fold = [run.fold("sequential", index).score["accuracy"] for index in range(3)]
    assert evaluation.spread("accuracy").mean == pytest.approx(np.mean(by_fold))
    assert evaluation.spread("accuracy").sd == pytest.approx(np.std(by_fold, ddof=1))
    assert evaluation.mean_confusion.sum(axis=1) == pytest.approx(np.ones(7))
    assert list(evaluation.folds[0].curves["epoch"]) == [1, 2, 3]


def test_missing_folds_are_named_unless_a_part_will_do(tmp_path):
    run = make_run(tmp_path / "run")
    (run.fold("sequential", 1).folder / "metrics.json").unlink()
    with pytest.raises(RunError, match=r"missing 1; start fer-train all .* --partial"):
        evaluate_model(run, "sequential")
    evaluation = evaluate_model(run, "sequential", partial=True)
    assert [fold.index for fold in evaluation.folds] == [0, 2]
    assert not evaluation.is_complete
    assert evaluation.merged["images"] == len(evaluation.predictions.index) < 140


def test_a_run_without_any_finished_fold_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    for index in range(3):
        (run.fold("sequential", index).folder / "metrics.json").unlink()
    with pytest.raises(RunError, match=r"Expected finished folds in .*run, received none"):
        evaluate_run(run, partial=True)


def test_a_fold_that_stands_there_twice_is_named(tmp_path):
    run = make_run(tmp_path / "run")
    shutil.rmtree(run.fold("sequential", 2).folder)
    shutil.copytree(run.fold("sequential", 0).folder, run.fold("sequential", 2).folder)
    with pytest.raises(RunError, match=r"47 that folds 0 and 2 of sequential in .* both hold out"):
        evaluate_model(run, "sequential")


def test_predictions_of_other_images_than_planned_are_refused(tmp_path):
    run = make_run(tmp_path / "run")
    path = run.fold("sequential", 1).folder / "predictions.npz"
    arrays = {name: values[1:] for name, values in read_arrays(path).items()}
    write_arrays(path, arrays)
    with pytest.raises(RunError, match=r"fold 1 of sequential .* folds.json gives it"):
        evaluate_model(run, "sequential")


def test_an_image_twice_in_one_fold_is_refused():
    part = {
        "index": np.array([4, 4]),
        "label": np.array([0, 1]),
        "probabilities": np.zeros((2, 7), np.float32),
    }
    with pytest.raises(RunError, match="some twice in fold 5"):
        merge_predictions({5: part})


def test_a_damaged_history_is_a_clear_error(tmp_path):
    run = make_run(tmp_path / "run")
    (run.fold("sequential", 0).folder / "history.csv").write_text("epoch,loss\n1,oops\n")
    with pytest.raises(RunError, match=r"Expected a table of numbers in .*history\.csv"):
        evaluate_model(run, "sequential")


def test_an_empty_cell_of_a_history_is_not_a_number(tmp_path):
    run = make_run(tmp_path / "run")
    (run.fold("sequential", 0).folder / "history.csv").write_text("epoch,loss\n1,0.5\n2,\n")
    losses = evaluate_model(run, "sequential").folds[0].curves["loss"]
    assert losses[0] == 0.5 and np.isnan(losses[1])


def test_the_merged_predictions_as_csv(tmp_path):
    evaluation = evaluate_model(make_run(tmp_path / "run"), "sequential")
    lines = predictions_csv(evaluation.predictions, evaluation.labels).splitlines()
    assert lines[0].startswith("index,name,fold,emotion,predicted,angry,disgust")
    assert len(lines) == 141
    index, name, _, emotion = lines[4].split(",")[:4]
    assert (index, name, emotion) == ("3", "train/happy/3.jpg", "happy")


def test_a_good_and_a_bad_model_differ_and_two_alike_do_not(tmp_path):
    run = make_run(tmp_path / "run", ("sequential", "vgg16"), folds=6, images=420, skill=3)
    (comparison,) = compare_models(evaluate_run(run))
    assert comparison.test.folds == 6
    assert comparison.test.difference > 0.2
    assert comparison.verdict == "differs by more than chance"
    again = evaluate_model(run, "sequential")
    (same,) = compare_models([again, again])
    assert same.verdict == "no difference shown"


def test_too_few_folds_leave_it_open(tmp_path):
    evaluation = evaluate_model(make_run(tmp_path / "run", folds=3), "sequential")
    assert compare_models([evaluation] * 2)[0].verdict == "open: 3 folds are too few to tell"


def test_equal_differences_of_two_folds_prove_nothing(tmp_path):
    evaluation = evaluate_model(make_run(tmp_path / "run", folds=2), "sequential")
    test = paired_test([0.6, 0.5], [0.55, 0.45], 1.0)
    assert test.p < 1e-9
    group = SeedGroup([evaluation])
    assert Comparison(group, group, test, test.p).verdict.startswith("open: 2 folds")


def test_models_of_other_folds_are_not_paired(tmp_path):
    runs = [make_run(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    assert compare_models([evaluate_model(run, "sequential") for run in runs]) == []


def test_a_fold_without_images_of_a_class_does_not_lower_its_average(tmp_path):
    run = make_run(tmp_path / "run", folds=2)
    (evaluation,) = evaluate_run(run)
    for fold, counts in zip(evaluation.folds, ([[3, 1], [0, 0]], [[1, 1], [1, 3]]), strict=True):
        fold.score["confusion"] = counts
    assert evaluation.mean_confusion.tolist() == [[0.625, 0.375], [0.25, 0.75]]


def test_a_score_lies_in_its_interval_and_above_what_needs_no_image(tmp_path):
    evaluation = evaluate_model(make_run(tmp_path / "run"), "sequential")
    low, high = evaluation.intervals["accuracy"]
    assert low < evaluation.merged["accuracy"] < high
    assert high - low < 0.2
    majority, prior = evaluation.baselines
    # The classes are equally many; what a fold has fewer of, the others have more of.
    assert majority.name == "majority" and 0 < majority.merged["accuracy"] <= 1 / 7
    assert prior.merged["log_loss"] == pytest.approx(np.log(7), abs=0.1)
    assert prior.merged["log_loss"] < majority.merged["log_loss"]
    assert len(prior.scores) == 3


def test_a_baseline_answers_what_was_frequent_in_training(tmp_path):
    (evaluation,) = evaluate_run(make_run(tmp_path / "run", folds=2))
    for fold in evaluation.folds:
        fold.score["training_support"] = [0, 0, 0, 30, 10, 0, 0]
    majority, prior = evaluation.baselines
    assert majority.merged["recall"] == [0, 0, 0, 1, 0, 0, 0]
    happy, sad = (0.75, 0.25)
    chances = np.array([1e-7, 1e-7, 1e-7, happy, sad, 1e-7, 1e-7])
    assert prior.merged["log_loss"] == pytest.approx(-np.log(chances).mean(), rel=1e-4)


def test_an_older_run_has_no_baselines_and_no_names(tmp_path):
    run = make_run(tmp_path / "run", folds=2)
    path = run.fold("sequential", 0).folder / "metrics.json"
    path.write_text(path.read_text().replace("training_support", "other"))
    path = run.fold("sequential", 0).folder / "predictions.npz"
    arrays = read_arrays(path)
    del arrays["name"]
    write_arrays(path, arrays)
    evaluation = evaluate_model(run, "sequential")
    assert evaluation.baselines == []
    assert set(evaluation.predictions.names[evaluation.predictions.fold == 0]) == {""}


def test_models_on_one_split_are_told_apart_by_their_images(tmp_path):
    run = make_run(tmp_path / "run", ("sequential", "vgg16"), folds=2, images=420, skill=3)
    (run.fold("sequential", 1).folder / "metrics.json").unlink()
    (run.fold("vgg16", 1).folder / "metrics.json").unlink()
    (comparison,) = compare_models(evaluate_run(run, partial=True))
    assert comparison.test is None
    assert comparison.images.first_only > comparison.images.second_only
    assert comparison.images_p_adjusted == comparison.images.p < 0.05
    assert comparison.verdict == "differs by more than chance, on these images"


def test_seeds_on_the_same_folds_are_one_model(tmp_path):
    runs = [make_run(tmp_path / str(seed), ("sequential", "vgg16"), folds=6) for seed in (0, 1)]
    runs[1] = replace(runs[1], protocol=replace(runs[1].protocol, seed=1, split_seed=0))
    evaluations = [each for run in runs for each in evaluate_run(run)]
    groups = group_seeds(evaluations)
    assert [[member.model for member in group.members] for group in groups] == [
        ["sequential"] * 2,
        ["vgg16"] * 2,
    ]
    assert groups[0].values("accuracy").shape == (2, 6)
    (comparison,) = compare_models(evaluations)
    # The runs are alike, so that the mean over the seeds is what one of them has.
    (alone,) = compare_models(evaluations[:2])
    assert comparison.test == alone.test
    assert comparison.images is None and alone.images is not None


def test_intervals_of_people_are_wider_than_those_of_images(tmp_path):
    run = make_run(tmp_path / "run")
    alone = evaluate_model(run, "sequential").intervals["accuracy"]
    people = np.where(evaluate_model(run, "sequential").predictions.right, "a", "b")
    # As if each of a few people were always right or always wrong.
    people = np.char.add(people, (np.arange(140) % 4).astype(str))
    run.keep_groups(people)
    grouped = replace(run, groups_digest=digest_of(people))
    wide = evaluate_model(grouped, "sequential").intervals["accuracy"]
    assert wide.high - wide.low > 2 * (alone.high - alone.low)
