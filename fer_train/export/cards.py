"""Facts about an exported file -> its card in MODELS.md.

Beside each ``FILE.onnx`` lies ``FILE.json`` with what was measured and how it was trained;
MODELS.md is made from these files alone, so that no figure in it is typed by hand, and nothing is
said that they do not tell.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fer_edge.contract import DetectorSpec, ModelSpec, Origin, read_spec
from fer_edge.errors import RunError
from fer_edge.inference.onnx_file import read_model
from fer_train.export.facts import read_facts
from fer_train.run.folder import write_text
from fer_train.run.votes import VOTE_SCORES, format_vote_score

CARDS = "MODELS.md"

Facts = Mapping[str, Any]

_HEADER = """\
# Models

This file is written by `fer-train cards`; edit `fer_train/export/cards.py` instead. Digests stand
in SHA256SUMS (`sha256sum -c SHA256SUMS`), the training log of each model in `MODEL.history.csv`,
and all figures below, with the confusion matrices, in the JSON file beside each model.

What a file takes and returns, and its labels in order, stand in its metadata (`fer-edge info FILE`
shows them). What to think of before it is used stands in `docs/responsible-use.md` of fer-edge.

## Intended use

Research, teaching and demonstrations of facial expression recognition; interfaces that react to
an expression of somebody who has agreed to it and can see that it happens.

The label is a guess at which of a few words people would choose for the picture of a face. It is
not what that person feels.

## Forbidden use

- Judging people by it: hiring, work, schooling, insurance, credit, policing, borders, health. The
  EU AI Act forbids inferring emotions at work and in education (article 5).
- Watching people who do not know of it or have not agreed.
- Anything where a wrong guess harms somebody: how many predictions are wrong stands in each card.

## Known limits

- Nothing was measured by age, gender or origin.
- Faces turned away, covered, or smaller than the model's input are classified too, and badly.
"""

_DATA_BIASES = (
    (
        ModelSpec.task,
        "fer2013",
        "FER-2013",
        """\
- FER-2013 was collected by a web search for emotion words. Its faces are often posed, who is in it
  is neither balanced nor recorded, and its labels are noisy: people agree with them on about 65 %
  of the images (Goodfellow et al., 2013).
- Its classes are uneven: a quarter is `happy`, 1.5 % is `disgust`, which is also the least certain
  to be found. The recall of each class is in its card.
""",
    ),
    (
        DetectorSpec.task,
        "faces",
        "the detector's pictures",
        """\
- Photographs of the web that were collected for research; who owns or is in them is mostly unknown.
  None comes with the project.
- More than a third of the faces were found by another detector (YuNet) alone, and the pictures
  beside FER-2013's are of press, sport, fashion and masks. What all of these leave out, and how
  often, nobody has counted.
- The detector takes some animals' heads, watches and prints for faces, and misses some faces that
  are small, thrown back or behind hands.
""",
    ),
)
"""What is known of data sets: the task, what their names' letters and digits hold, title, text."""


def write_cards(folder: Path) -> Path:
    """Write MODELS.md from all files with facts in a folder.

    Raises:
        RunError: Facts are damaged, or the file cannot be written.
        ModelError: A model cannot be read.
    """
    files = [path for path in sorted(folder.glob("*.onnx")) if path.with_suffix(".json").is_file()]
    facts = [read_facts(path) for path in files]
    cards = [card(path, own) for path, own in zip(files, facts, strict=True)]
    biases = data_biases(_read(path)[0] for path in files)
    voted = any("agreement" in own.get("single", ()) for own in facts)
    meanings = [_vote_meanings()] if voted else []
    write_text(folder / CARDS, "\n".join([_HEADER, *biases, *meanings, *cards]))
    return folder / CARDS


def _vote_meanings() -> str:
    """Return a section on the scores by votes."""
    lines = [f"- {title.capitalize()}: {meaning}." for title, meaning in VOTE_SCORES.values()]
    return "\n".join(["## Scores by what people see", "", *lines, ""])


def data_biases(origins: Iterable[Origin]) -> list[str]:
    """Return a section on each data set of which something is known, by their files' names."""
    names = [(spec.task, re.sub("[^a-z0-9]", "", spec.dataset.lower())) for spec in origins]
    return [
        f"## Known biases of {title}\n\n{text}"
        for task, key, title, text in _DATA_BIASES
        if any(own == task and key in name for own, name in names)
    ]


def card(path: Path, facts: Facts) -> str:
    """Return the Markdown of one file's card.

    Raises:
        ModelError: The file cannot be read.
        RunError: The facts lack something.
    """
    spec, digest = _read(path)
    try:
        rows = [
            ("Size", f"{path.stat().st_size / 1e6:.2f} MB, {facts['parameters']:,} parameters"),
            ("Precision", _precision(facts, spec)),
            *_data(facts, spec),
            *_recipe(facts, spec),
            *_architecture(facts),
            *_told("Command", facts, "command", "`{}`"),
            *_told("Settings", facts, "settings"),
            *_training(facts),
            *(
                (f"Stage {number} before it", _stage(stage))
                for number, stage in enumerate(facts["earlier"], 1)
            ),
            *_averaged(facts),
            *_teacher(facts),
            *(("Note", note) for note in facts.get("notes", ())),
            *(_detector_scores(facts, spec) if isinstance(spec, DetectorSpec) else _scores(facts)),
            *([("Licence", spec.licence)] if spec.licence else []),
            ("SHA-256", f"`{digest}`"),
        ]
        lines = [f"## {path.name}", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in rows]
        if "single" in facts and isinstance(spec, ModelSpec):
            lines += _classes(facts["single"], spec)
            lines += _majority_classes(facts["single"], spec)
    except KeyError as error:
        raise RunError(
            f"Expected {error} in {path.with_suffix('.json')}; export the model again"
        ) from error
    return "\n".join([*lines, ""])


def _read(path: Path) -> tuple[ModelSpec | DetectorSpec, str]:
    """Return what a file says of itself, and its digest."""
    content, file = read_model(path)
    spec = read_spec(file.metadata, path.name)
    if spec is None:
        raise RunError(f"Expected fer-edge metadata in {path}, received none; export it again")
    return spec, hashlib.sha256(content).hexdigest()


def _detector_scores(facts: Facts, spec: DetectorSpec) -> list[tuple[str, str]]:
    evaluated = facts["evaluation"]
    sides = ", ".join(f"{sides} {_percent(share)}" for sides, share in evaluated["by_side"].items())
    kept = evaluated.get("turned", {})
    turned = ", ".join(f"{by} degrees {_percent(share)}" for by, share in kept.items())
    return [
        (f"Faces found in {facts['evaluated_on']}", f"{_percent(evaluated['recall'])}; {sides}"),
        ("Boxes too many", evaluated["false"]),
        *([("Kept when turned by", turned)] if turned else []),
        ("Average precision", f"{evaluated['average_precision']:.4f}"),
        ("Score from which a box counts", f"{spec.threshold:g}"),
    ]


def _classes(single: Facts, spec: ModelSpec) -> list[str]:
    columns = (single["recall"], single["precision"], single["support"])
    rows = [
        f"| {label} | {recall:.1%} | {precision:.1%} | {support} |"
        for label, recall, precision, support in zip(spec.labels, *columns, strict=True)
    ]
    return ["", "| class | recall | precision | images |", "|---|---|---|---|", *rows]


def _majority_classes(single: Facts, spec: ModelSpec) -> list[str]:
    """Return the recall of each class on the images whose clear majority it is."""
    if "majority_recall" not in single:
        return []
    rows = [
        f"| {label} | {recall:.1%} | {support} |"
        for label, recall, support in zip(
            spec.labels, single["majority_recall"], single["majority_support"], strict=True
        )
    ]
    return ["", "| class of the clear majority | recall | images |", "|---|---|---|", *rows]


def _told(name: str, facts: Facts, key: str, form: str = "{}") -> list[tuple[str, str]]:
    return [(name, form.format(facts[key]))] if key in facts else []


def _precision(facts: Facts, spec: Origin) -> str:
    if spec.precision != "int8":
        return spec.precision
    made = facts["int8"]
    if isinstance(spec, DetectorSpec):
        return (
            "int8, but for the outputs; recall "
            f"{(made['recall'] - made['parent_recall']) * 100:+.2f} points from fp32 at as many "
            f"false boxes, {made['speedup']:.1f} times as fast where it was made"
        )
    lost = f"top-1 {(made['accuracy'] - made['parent_accuracy']) * 100:+.2f} points"
    if made.get("agreement") is not None:
        points = (made["agreement"] - made["parent_agreement"]) * 100
        lost = f"agreement with a rater {points:+.2f} points, {lost}"
    sure = f" (± {made['lost_half'] * 100:.2f}, 95 %)" if "lost_half" in made else ""
    return (
        f"int8, scales from {made['calibration']} of the training set; "
        f"{lost} from fp32{sure}, "
        f"{made['speedup']:.1f} times as fast where it was made"
    )


def _data(facts: Facts, spec: Origin) -> list[tuple[str, str]]:
    told = [spec.dataset] if spec.dataset else []
    if "training_images" in facts:
        told.append(f"{facts['training_images']:,} images to train on")
    rows = [("Data", ", ".join(told))] if told else []
    if spec.dataset_digest:
        rows.append(("Digest of the data", f"`{spec.dataset_digest}`"))
    return rows


def _recipe(facts: Facts, spec: Origin) -> list[tuple[str, str]]:
    if "folds" not in facts:
        return []
    split = "the data set's own split"
    if facts["folds"] > 1:
        number = "one" if spec.fold is None else f"fold {spec.fold}"
        split = f"{number} of {facts['folds']}"
    parts = [spec.recipe, f"seed {facts['seed']}", split]
    return [("Recipe", ", ".join(part for part in parts if part))]


def _architecture(facts: Facts) -> list[tuple[str, str]]:
    recipe = facts.get("recipe", {})
    if not recipe.get("model_file"):
        return []
    return [("Architecture", f"`{recipe['model_file']}`, SHA-256 of the file `{recipe['code']}`")]


def _training(facts: Facts) -> list[tuple[str, str]]:
    if "hours" not in facts:
        return []
    text = (
        f"{facts['hours']:g} h, epoch {facts['kept_epoch']} of {facts['epochs']} kept, "
        f"{facts['device']}, {facts['dtype_policy']}"
    )
    return [("Training", text)]


def _stage(stage: Facts) -> str:
    """Tell of a training that the model went on from, as far as it is known."""
    told = f"`{stage['command']}`: " if "command" in stage else ""
    told += f"{stage['settings']}: " if "settings" in stage else ""
    found = []
    if "hours" in stage:
        on = f" on {stage['device']}" if "device" in stage else ""
        found.append(f"{stage['epochs']} epochs, {stage['hours']:g} h{on}")
    found.append(f"top-1 {_percent(stage['accuracy'])}")
    text = told + ", ".join(found)
    text = f"{text} as {_mean(stage)}" if "averaged" in stage else text
    return "; ".join([text, *stage.get("notes", ())])


def _averaged(facts: Facts) -> list[tuple[str, str]]:
    if "averaged" not in facts:
        return []
    return [("Weights", f"{_mean(facts)}, batch statistics measured anew")]


def _mean(facts: Facts) -> str:
    """Tell with which stages' results a training's own was averaged, in equal shares."""
    stages = facts["averaged"]
    return f"the mean with stage{'s' * (len(stages) > 1)} {' and '.join(map(str, stages))}"


def _teacher(facts: Facts) -> list[tuple[str, str]]:
    if "teacher" not in facts:
        return []
    teacher = facts["teacher"]
    if "files" in teacher:
        names = " and ".join(f"`{name}`" for name in teacher["files"])
        text = "by the mean prediction for each image as augmented, and that mirrored"
        return [("Teacher", f"{names}, {text}")]
    commands = " and ".join(f"`{command}`" for command in teacher["commands"])
    found = f"top-1 {_percent(teacher['accuracy'])}, mirrored, on {teacher['images']:,} images"
    return [("Teacher", f"{commands}: {found} that it did not train on")]


def _scores(facts: Facts) -> list[tuple[str, str]]:
    if "single" not in facts:
        return []
    single, mirrored = facts["single"], facts["mirrored"]
    return [
        (f"Top-1 on {facts['evaluated_on']}", _percent(single["accuracy"])),
        ("The same, mirrored", _percent(mirrored["accuracy"])),
        ("Binary accuracy", _percent(single["binary_accuracy"])),
        ("Balanced accuracy", _percent(single["balanced_accuracy"])),
        ("Calibration error", f"{single['expected_calibration_error']:.3f} (15 bins)"),
        *_votes(single, mirrored),
    ]


def _votes(single: Facts, mirrored: Facts) -> list[tuple[str, str]]:
    """Tell how far the model agrees with raters, where votes are known."""
    rows = []
    for name, (title, _) in VOTE_SCORES.items():
        if name == "accuracy" or name not in single:
            continue
        text = format_vote_score(name, single[name])
        if name in ("agreement", "clear_accuracy", "clear_balanced_accuracy", "vote_log_loss"):
            text += f", mirrored {format_vote_score(name, mirrored[name])}"
        rows.append((title.capitalize(), text))
    return rows


def _percent(share: float) -> str:
    return f"{share:.2%}"
