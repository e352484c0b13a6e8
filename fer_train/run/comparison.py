"""Evaluated models -> which of them differ by more than chance; seeds of one model put together."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fer_train.run.evaluation import ModelEvaluation
from fer_train.run.folder import Run, RunFold
from fer_train.run.metrics import McNemarTest, PairedTest, holm, mcnemar, paired_test

MIN_TEST_FOLDS = 5
"""With fewer folds, differences that are equal by chance pass for certain ones."""


@dataclass(frozen=True)
class SeedGroup:
    """One model, trained on the same folds from one seed or several.

    Attributes:
        members: An evaluation of each seed.
    """

    members: Sequence[ModelEvaluation]

    @property
    def folds(self) -> list[RunFold]:
        """The folds, of the first seed, that are done from every seed."""
        done = [{fold.index for fold in member.folds} for member in self.members]
        common = set.intersection(*done)
        return [fold for fold in self.members[0].folds if fold.index in common]

    def values(self, name: str) -> NDArray[np.float64]:
        """Return one score of each seed and fold: (seeds, folds)."""
        wanted = [fold.index for fold in self.folds]
        by_fold = [{fold.index: fold.score for fold in member.folds} for member in self.members]
        return np.asarray([[scores[index][name] for index in wanted] for scores in by_fold])


def group_seeds(evaluations: Sequence[ModelEvaluation]) -> list[SeedGroup]:
    """Put together what differs in the seed alone, in the order of the first of each."""
    groups: list[list[ModelEvaluation]] = []
    for each in evaluations:
        for members in groups:
            if _differ_in_seed(members[0], each):
                members.append(each)
                break
        else:
            groups.append([each])
    return [SeedGroup(members) for members in groups]


def _differ_in_seed(first: ModelEvaluation, second: ModelEvaluation) -> bool:
    return (
        first.model == second.model
        and first.recipe == second.recipe
        and first.run.protocol.seed != second.run.protocol.seed
        and same_folds(first.run, second.run)
    )


@dataclass(frozen=True)
class Comparison:
    """Whether two models differ by more than chance.

    Attributes:
        first: One model.
        second: The other.
        test: The paired test on top-1 over the folds that both have, each the mean over its seeds,
            or None where there are fewer than two.
        p_adjusted: Its p-value, adjusted for the number of tests, or None.
        images: The test on the images that both were asked about, or None where one of them has
            several seeds: it compares trained models, not the way to train them.
        images_p_adjusted: Its p-value, adjusted for the number of tests, or None.
    """

    first: SeedGroup
    second: SeedGroup
    test: PairedTest | None
    p_adjusted: float | None
    images: McNemarTest | None = None
    images_p_adjusted: float | None = None

    @property
    def verdict(self) -> str:
        """What the tests say at a level of 5 %, in words: over folds, or of one split's images."""
        p = self.p_adjusted
        if self.test is None:
            p = self.images_p_adjusted
        elif self.test.folds < MIN_TEST_FOLDS:
            return f"open: {self.test.folds} folds are too few to tell"
        if p is None:
            return "not tested: fewer than two common folds"
        of_one = ", on these images" if self.test is None else ""
        return (
            f"differs by more than chance{of_one}" if p < 0.05 else f"no difference shown{of_one}"
        )


def compare_models(evaluations: Sequence[ModelEvaluation]) -> list[Comparison]:
    """Test each pair of models that were evaluated on the same folds, on top-1.

    Pairs of other data or folds are left out: their scores are not paired.
    """
    pairs = [
        (first, second)
        for first, second in combinations(group_seeds(evaluations), 2)
        if same_folds(first.members[0].run, second.members[0].run)
    ]
    tests = [_test(first, second) for first, second in pairs]
    adjusted = iter(holm([test.p for test in tests if test]))
    of_images = [_test_images(first, second) for first, second in pairs]
    images_adjusted = iter(holm([test.p for test in of_images if test]))
    return [
        Comparison(
            first,
            second,
            test,
            next(adjusted) if test else None,
            images,
            next(images_adjusted) if images else None,
        )
        for (first, second), test, images in zip(pairs, tests, of_images, strict=True)
    ]


def _test(first: SeedGroup, second: SeedGroup) -> PairedTest | None:
    common = {fold.index for fold in first.folds} & {fold.index for fold in second.folds}
    if not common:
        return None
    scores = []
    for side in (first, second):
        means = side.values("accuracy").mean(axis=0)
        scores.append(
            [value for value, fold in zip(means, side.folds, strict=True) if fold.index in common]
        )
    splits = [fold.split for fold in first.folds if fold.index in common]
    share = float(np.mean([split.test.size / split.train.size for split in splits]))
    return paired_test(scores[0], scores[1], share)


def _test_images(first: SeedGroup, second: SeedGroup) -> McNemarTest | None:
    if len(first.members) > 1 or len(second.members) > 1:
        return None
    one, other = first.members[0].predictions, second.members[0].predictions
    common = np.isin(one.index, other.index), np.isin(other.index, one.index)
    # The images of both stand in the order of their numbers.
    return mcnemar(one.right[common[0]], other.right[common[1]]) if common[0].any() else None


def same_folds(first: Run, second: Run) -> bool:
    """Tell whether two runs hold out the same images of the same data, fold by fold."""
    return (
        first.dataset_digest == second.dataset_digest
        and len(first.folds) == len(second.folds)
        and all(
            np.array_equal(one.test, other.test)
            for one, other in zip(first.folds, second.folds, strict=True)
        )
    )
