"""Facts about an exported file -> its card in MODELS.md.

Beside each ``FILE.onnx`` lies ``FILE.json`` with what was measured and how it was trained;
MODELS.md is made from these files alone, so that no figure in it is typed by hand.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fer_edge.errors import RunError
from fer_edge.inference.classifier import Classifier
from fer_train.export.facts import read_facts
from fer_train.run.folder import write_text

CARDS = "MODELS.md"


_HEADER = """\
# Models

This file is written by `fer-train cards`; edit `fer_train/export/cards.py` instead. Digests stand
in SHA256SUMS (`sha256sum -c SHA256SUMS`), the training log of each model in `MODEL.history.csv`,
and all figures below, with the confusion matrices, in the JSON file beside each model.

All take `image`, float32 (N, 48, 48, 1), grey, 0-255, and answer with `probabilities`, float32
(N, K), in the order of the labels in their metadata.

## Intended use

Research, teaching and demonstrations of facial expression recognition; interfaces that react to
an expression of somebody who has agreed to it and can see that it happens.

The label is a guess at which of a few words people would choose for the picture of a face. It is
not what that person feels.

## Forbidden use

- Judging people by it: hiring, work, schooling, insurance, credit, policing, borders, health. The
  EU AI Act forbids inferring emotions at work and in education (article 5).
- Watching people who do not know of it or have not agreed.
- Anything where a wrong guess harms somebody: of three answers about one is wrong.

## Known biases

- FER-2013 was collected by a web search for emotion words. Its faces are often posed, who is in it
  is neither balanced nor recorded, and its labels are noisy: people agree with them on about 65 %
  of the images (Goodfellow et al., 2013).
- Classes are uneven: a quarter is `happy`, 1.5 % is `disgust`, which is also the least certain to
  be found. The recall of each class is in its card.
- Nothing was measured by age, gender or origin, for which the data set has no labels.
- Faces turned away, covered, or under 48 pixels are answered too, and badly.
"""


def write_cards(folder: Path) -> Path:
    """Write MODELS.md from all files with facts in a folder.

    Raises:
        RunError: Facts are damaged, or the file cannot be written.
        ModelError: A model cannot be read.
    """
    cards = [
        card(path, read_facts(path))
        for path in sorted(folder.glob("*.onnx"))
        if path.with_suffix(".json").is_file()
    ]
    write_text(folder / CARDS, "\n".join([_HEADER, *cards]))
    return folder / CARDS


def card(path: Path, facts: Mapping[str, Any]) -> str:
    """Return the Markdown of one file's card.

    Raises:
        ModelError: The file cannot be read.
        RunError: The facts lack something.
    """
    model = Classifier(path, provider="cpu", detector="none")
    spec = model.spec
    try:
        single, mirrored = facts["single"], facts["mirrored"]
        rows = [
            ("Size", f"{path.stat().st_size / 1e6:.2f} MB, {facts['parameters']:,} parameters"),
            ("Precision", _precision(facts, spec.precision)),
            ("Data", f"{spec.dataset}, {facts['training_images']:,} images to train on"),
            ("Digest of the data", f"`{spec.dataset_digest}`"),
            ("Recipe", f"{spec.recipe}, seed {facts['seed']}, {_fold(facts)}"),
            ("Command", f"`{facts['command']}`"),
            ("Training", _training(facts)),
            *(
                (f"Stage {number} before it", _stage(stage))
                for number, stage in enumerate(facts["earlier"], 1)
            ),
            *_averaged(facts),
            *_teacher(facts),
            (f"Top-1 on {facts['judged_on']}", _percent(single["accuracy"])),
            ("The same, mirrored", _percent(mirrored["accuracy"])),
            ("Binary accuracy", _percent(single["binary_accuracy"])),
            ("Balanced accuracy", _percent(single["balanced_accuracy"])),
            ("Calibration error", f"{single['expected_calibration_error']:.3f} (15 bins)"),
            ("Licence", spec.licence),
            ("SHA-256", f"`{model.digest}`"),
        ]
        classes = [
            f"| {label} | {recall:.1%} | {precision:.1%} | {support} |"
            for label, recall, precision, support in zip(
                spec.labels, single["recall"], single["precision"], single["support"], strict=True
            )
        ]
    except KeyError as error:
        raise RunError(
            f"Expected {error} in {path.with_suffix('.json')}; export the model again"
        ) from error
    lines = [f"## {path.name}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows]
    lines += ["", "| class | recall | precision | images |", "|---|---|---|---|", *classes, ""]
    return "\n".join(lines)


def _precision(facts: Mapping[str, Any], precision: str) -> str:
    if precision != "int8":
        return precision
    made = facts["int8"]
    return (
        f"int8, scales from {made['calibration']} of the training set; "
        f"top-1 {(made['accuracy'] - made['parent_accuracy']) * 100:+.2f} points from fp32, "
        f"{made['speedup']:.1f} times as fast where it was made"
    )


def _training(facts: Mapping[str, Any]) -> str:
    return (
        f"{facts['hours']:g} h, epoch {facts['kept_epoch']} of {facts['epochs']} kept, "
        f"{facts['device']}, {facts['dtype_policy']}"
    )


def _stage(stage: Mapping[str, Any]) -> str:
    text = (
        f"`{stage['command']}`: {stage['epochs']} epochs, {stage['hours']:g} h, top-1 "
        f"{_percent(stage['accuracy'])}"
    )
    return f"{text} as {_mean(stage)}" if "averaged" in stage else text


def _averaged(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "averaged" not in facts:
        return []
    return [("Weights", f"{_mean(facts)}, batch statistics measured anew")]


def _mean(facts: Mapping[str, Any]) -> str:
    """Tell with which stages' results a training's own was averaged, in equal shares."""
    stages = facts["averaged"]
    return f"the mean with stage{'s' * (len(stages) > 1)} {' and '.join(map(str, stages))}"


def _teacher(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "teacher" not in facts:
        return []
    teacher = facts["teacher"]
    if "files" in teacher:
        names = " and ".join(f"`{name}`" for name in teacher["files"])
        text = "by the mean of the answers to each image as augmented, and that mirrored"
        return [("Teacher", f"{names}, {text}")]
    commands = " and ".join(f"`{command}`" for command in teacher["commands"])
    found = f"top-1 {_percent(teacher['accuracy'])}, mirrored, on {teacher['images']:,} images"
    return [("Teacher", f"{commands}: {found} that it did not train on")]


def _fold(facts: Mapping[str, Any]) -> str:
    if facts["folds"] == 1:
        return "the data set's own split"
    return f"fold {facts['fold']} of {facts['folds']}"


def _percent(share: float) -> str:
    return f"{share:.2%}"
