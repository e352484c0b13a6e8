"""The thesis's published figures as data, for tables beside ours.

E. B. Kirkvik, *Facial Emotion Recognition using Deep Learning*, OsloMet, 2022. What it prints as
accuracy is the binary accuracy over seven one-hot labels (`metrics.binary_accuracy_from` shows it
from its own recall and precision); top-1 stands only in its classification reports of one fold.
"""

from dataclasses import dataclass

from fer_edge.contract import EMOTIONS

REFERENCE = (
    "E. B. Kirkvik, Facial Emotion Recognition using Deep Learning, master's thesis, OsloMet, 2022"
)


@dataclass(frozen=True)
class ClassScores:
    """One row of a classification report."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Published:
    """What the thesis prints of one model, shares as 0 to 1.

    Attributes:
        model: Our name of it.
        form: Form of FER-2013: ``csv`` with 10-fold cross-validation, or ``jpg`` with one split.
        binary_accuracy: What it prints as accuracy; the mean over folds.
        sd: Its standard deviation over folds (ddof 0, as its per-fold figures show), or None.
        loss: Evaluation loss.
        recall: Of predictions above 0.5.
        precision: Of predictions above 0.5.
        f1: As printed.
        epochs: Epochs of training.
        seconds: Training time of a fold on one GPU, or None.
        accuracy: Top-1 of the one fold (csv) or split (jpg) that it reports.
        fold_accuracy: Binary accuracy of each fold.
        fold_loss: Evaluation loss of each fold.
        report: The classification report of one fold, by emotion; empty where it has none.
    """

    model: str
    form: str
    binary_accuracy: float
    sd: float | None
    loss: float
    recall: float
    precision: float
    f1: float
    epochs: int
    seconds: float | None
    accuracy: float
    fold_accuracy: tuple[float, ...] = ()
    fold_loss: tuple[float, ...] = ()
    report: tuple[ClassScores, ...] = ()

    def of_class(self, emotion: str) -> ClassScores | None:
        """Return the report's row of an emotion, None where it has none."""
        known = self.report and emotion in EMOTIONS
        return self.report[EMOTIONS.index(emotion)] if known else None


def published(model: str) -> list[Published]:
    """Return what the thesis prints of a model, the cross-validated csv form first."""
    return [entry for entry in PUBLISHED if entry.model == model]


def _report(*rows: tuple[float, float, float, int]) -> tuple[ClassScores, ...]:
    """Make a classification report of rows in contract order."""
    return tuple(ClassScores(*row) for row in rows)


PUBLISHED = (
    Published(
        "sequential",
        "csv",
        0.8967,
        0.00193,
        1.27,
        0.41,
        0.76,
        0.54,
        50,
        1259.8,
        0.59,
        (0.8993, 0.8971, 0.8954, 0.8938, 0.8986, 0.8979, 0.8977, 0.8960, 0.8932, 0.8980),
        (1.235, 1.246, 1.271, 1.316, 1.249, 1.292, 1.258, 1.275, 1.295, 1.248),
        _report(
            (0.53, 0.43, 0.48, 479),
            (0.57, 0.23, 0.33, 52),
            (0.56, 0.22, 0.31, 547),
            (0.77, 0.82, 0.80, 876),
            (0.45, 0.56, 0.50, 597),
            (0.77, 0.66, 0.71, 418),
            (0.47, 0.71, 0.57, 619),
        ),
    ),
    Published(
        "vgg16",
        "csv",
        0.8670,
        0.00131,
        1.51,
        0.17,
        0.67,
        0.35,
        20,
        675.0,
        0.41,
        (0.8676, 0.8683, 0.8681, 0.8666, 0.8664, 0.8662, 0.8652, 0.8696, 0.8653, 0.8666),
        (1.509, 1.500, 1.508, 1.504, 1.511, 1.530, 1.537, 1.481, 1.535, 1.519),
        _report(
            (0.35, 0.25, 0.29, 488),
            (0.00, 0.00, 0.00, 49),
            (0.26, 0.34, 0.30, 516),
            (0.51, 0.66, 0.58, 921),
            (0.37, 0.23, 0.28, 628),
            (0.43, 0.65, 0.52, 394),
            (0.42, 0.29, 0.34, 592),
        ),
    ),
    Published(
        "resnet50",
        "csv",
        0.8628,
        0.00043,
        1.61,
        0.12,
        0.60,
        0.29,
        20,
        687.1,
        0.37,
        (0.8634, 0.8622, 0.8628, 0.8627, 0.8628, 0.8624, 0.8624, 0.8628, 0.8637, 0.8627),
        (1.607, 1.634, 1.614, 1.603, 1.615, 1.592, 1.642, 1.579, 1.590, 1.619),
        _report(
            (0.35, 0.16, 0.22, 482),
            (0.00, 0.00, 0.00, 56),
            (0.25, 0.32, 0.28, 503),
            (0.54, 0.44, 0.48, 898),
            (0.28, 0.35, 0.31, 589),
            (0.54, 0.41, 0.47, 405),
            (0.35, 0.51, 0.41, 655),
        ),
    ),
    Published("sequential", "jpg", 0.88, None, 1.75, 0.20, 0.75, 0.35, 150, None, 0.5761),
)
