"""The trainer's work: frozen features computed once, and the images/s of each training step.

A frozen backbone is run once for each image and its features are kept; training through it runs
it for each image of each epoch of each fold. Both are timed on a part of the images, in turns,
so that a busy machine slows both alike, and scaled to the published protocol: 10 folds of 20 epochs
over 35,887 images. Work is counted in the floating-point operations of TensorFlow's graphs, the
same on every machine; time falls by less, since what both ways share, the head, waits for memory:
resnet50's has 4.2 million parameters, and its step of 32 images with Adam takes about a tenth of
the backbone's pass over them. What is scaled is called so; ``--full 10`` runs the protocol itself,
``--full 1`` a tenth of it, on all images.

    python benchmarks/training.py --data fer2013.zip --json benchmarks/results/training.json
    python benchmarks/training.py --full 1 --json benchmarks/results/training-full.json
"""

import dataclasses
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.machine import json_option, write_results
from fer_train.commands.parameters import NameList
from fer_train.data.folds import Fold
from fer_train.data.load import Dataset, load_dataset
from fer_train.network.device import choose_precision, describe_device
from fer_train.network.models import BACKBONE, build_model
from fer_train.run.folder import Run, RunFold
from fer_train.run.plan import pending, plan_run
from fer_train.run.recipes import (
    KERAS_MODELS,
    PROTOCOL_DEFAULTS,
    TRANSFER_MODELS,
    Protocol,
    Recipe,
    recipe_for,
)
from fer_train.train.fold import FoldTrainer
from fer_train.train.lessons import FeatureLesson
from fer_train.train.schedule import run_here
from fer_train.train.stages import Stage

FER_IMAGES = 35_887
FOLDS, EPOCHS = 10, 20
MOST_MINUTES = 112.0
"""What ten folds of a transfer model took the thesis on one GPU."""
LEAST_RATIO = 20.0
"""How many times less work frozen features are to be."""
# A head's epoch is short: of so many times the images, the cost of starting it is a small part.
_HEAD_REPEATS = 16


def _trainer(run: Run, model: str, dataset: Dataset, repeats: int = 1) -> FoldTrainer:
    """Return a trainer of 9/10 of the images, each seen ``repeats`` times an epoch."""
    count = len(dataset)
    train, test = np.split(np.arange(count), [count * (FOLDS - 1) // FOLDS])
    fold = Fold(0, np.tile(train, repeats), train[:0], np.tile(test, repeats))
    return FoldTrainer(RunFold(run, model, fold), dataset)


def _features(trainer: FoldTrainer, net: Any) -> Any:
    """Compute what the frozen backbone makes of the images, or read it where it was kept."""
    lesson = trainer.lessons[0]
    if not isinstance(lesson, FeatureLesson):
        raise TypeError(f"Expected a recipe that changes no image, received {trainer.recipe}")
    return lesson.features(net)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _turns(parts: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Run parts in turns; return the median seconds of each, without the first turn's tracing."""
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds + 1):
        for name, work in parts.items():
            times[name].append(_seconds(work))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def _operations(function: Callable[..., object], *specs: Any) -> int:
    """Return the floating-point operations of a TensorFlow function, by its own profiler."""
    import tensorflow as tf

    profiler = tf.compat.v1.profiler
    graph = tf.function(function).get_concrete_function(*specs).graph
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    return int(profiler.profile(graph, options=options.with_empty_output().build()).total_float_ops)


def count_work(net: Any, head: Any, recipe: Recipe) -> dict[str, float]:
    """Count the operations of a transfer model's published training in both ways.

    A step through the frozen backbone is its forward pass and the step of the head: nothing is
    differentiated but the head, which TensorFlow sees before it runs the graph.

    Args:
        net: The model.
        head: Its training on features.
        recipe: Settings.

    Returns:
        Million operations of an image in each part, and the ratio over all folds and epochs.
    """
    import tensorflow as tf

    batch = recipe.batch_size
    head.compile(recipe.optimizer, "categorical_crossentropy", jit_compile=False)
    head.optimizer.build(head.trainable_variables)
    step = (
        tf.TensorSpec((batch,), tf.int32),
        tf.TensorSpec((batch, head.output_shape[-1]), tf.float32),
        tf.TensorSpec((batch,), tf.float32),
    )
    image = tf.TensorSpec((batch, *net.input_shape[1:]), tf.float32)
    backbone = _operations(lambda x: net.get_layer(BACKBONE)(x), image)
    train = _operations(lambda x, y, w: head.train_step((x, y, w)), *step)
    evaluate = _operations(lambda x, y, w: head.test_step((x, y, w)), *step)
    # Nine tenths of the images train in each epoch, the last tenth is held out.
    epoch = (train * (FOLDS - 1) + evaluate) / FOLDS
    million = {"backbone": backbone, "head_train": train, "head_evaluate": evaluate}
    return {name: round(count / batch / 1e6, 1) for name, count in million.items()} | {
        "ratio": round((backbone + epoch) / (backbone / (FOLDS * EPOCHS) + epoch), 1)
    }


def _run(folder: Path, recipe: str, model: str, dataset: Dataset, data: str) -> Run:
    protocol = Protocol(data, folds=FOLDS, **PROTOCOL_DEFAULTS[recipe])
    recipes = {model: recipe_for(recipe, model, {"weights": "none"})}
    return Run(folder, protocol, dataset.digest, recipes, [])


def compare_frozen(model: str, dataset: Dataset, data: str, rounds: int) -> dict[str, Any]:
    """Time a transfer model's published training in both ways; scale to the whole protocol.

    Returns:
        The seconds of each part for the images at hand, and what they amount to for all.
    """
    import keras

    with tempfile.TemporaryDirectory() as name:
        run = _run(Path(name), "thesis", model, dataset, data)
        recipe = run.recipes[model]
        keras.config.set_dtype_policy(choose_precision(recipe.precision))
        classes = len(run.protocol.labels)
        once = _trainer(run, model, dataset, _HEAD_REPEATS)
        through = _trainer(run, model, dataset)
        # As the published code does: the frozen backbone runs in every step.
        through.lessons = through.lessons[1], through.lessons[1]
        net, other = (build_model(model, recipe, classes) for _ in range(2))
        features = run.folder / model / "features"

        def compute_features() -> None:
            for path in features.glob("*.npy"):
                path.unlink()
            _features(once, net)

        compute_features()
        once.compiled.begin(net)
        through.compiled.begin(other)
        head, whole = once.stage(0), through.stage(0)
        history: list[dict[str, float]] = []
        seconds = _turns(
            {
                "features": compute_features,
                "head_epoch": lambda: history.append(once.run_epoch(head, [])),
                "through_epoch": lambda: through.run_epoch(whole, []),
                "checkpoint": lambda: once.checkpoints.save(net, head, history[-1:]),
                "build": lambda: build_model(model, recipe, classes),
            },
            rounds,
        )
        work = count_work(net, head.network, recipe)
        keras.backend.clear_session()
    seconds["head_epoch"] /= _HEAD_REPEATS
    scale = FER_IMAGES / len(dataset)
    epochs = FOLDS * EPOCHS
    # Each fold builds the model twice, to train it and to evaluate it.
    same = epochs * seconds["checkpoint"] + FOLDS * 2 * seconds["build"]
    once_s = scale * (seconds["features"] + epochs * seconds["head_epoch"]) + same
    through_s = scale * epochs * seconds["through_epoch"] + same
    return {
        "precision": choose_precision(recipe.precision),
        "images": len(dataset),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "features_images_per_s": round(len(dataset) / seconds["features"], 1),
        "head_step_ms": round(1000 * seconds["head_epoch"] / (len(dataset) / recipe.batch_size), 2),
        "extrapolated": {
            "features_once_minutes": round(once_s / 60, 1),
            "through_backbone_minutes": round(through_s / 60, 1),
        },
        "time_ratio": round(through_s / once_s, 1),
        "mega_operations_an_image": work,
        "work_ratio": work.pop("ratio"),
    }


def _step_parts(trainer: FoldTrainer, stage: Stage, model: str) -> dict[str, Callable[[], object]]:
    """Return an epoch of training in three ways: the trainer's, Keras's fit, the loop alone.

    The loop alone is one call for all steps, on data that are on the device: it is the kernels.
    Fit is how epochs ran before: Python, its callback and a transfer between any two steps.
    """
    import keras

    lesson, recipe = trainer.lessons[1], trainer.recipe
    data = lesson.epoch_data(0)
    steps = -(-data.order.size // recipe.batch_size)
    rates = np.full(steps, 1e-6, np.float32)
    batches = stage.training_batches(lesson, data, rates)
    fitted = lesson.network(build_model(model, recipe, data.targets.shape[1], fused=True))
    fitted.compile(
        recipe.optimizer,
        "categorical_crossentropy",
        jit_compile=keras.backend.backend() == "jax",
    )

    class BatchReport(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            pass

    def fit() -> None:
        fitted.fit(
            data.inputs,
            data.targets,
            sample_weight=data.weights,
            batch_size=recipe.batch_size,
            shuffle=False,
            verbose=0,
            callbacks=[BatchReport()],
        )

    return {
        "epoch": lambda: trainer.train_epoch(stage, []),
        "fit": fit,
        "kernels": lambda: stage.loops.train(batches, 0, steps),
    }


def step_rates(
    models: tuple[str, ...], dataset: Dataset, data: str, rounds: int
) -> dict[str, dict[str, Any]]:
    """Return images/s and the time beyond the kernels of each model's training from scratch."""
    import keras

    rates = {}
    for model in models:
        with tempfile.TemporaryDirectory() as name:
            run = _run(Path(name), "modern", model, dataset, data)
            recipe = run.recipes[model]
            keras.config.set_dtype_policy(choose_precision(recipe.precision))
            trainer = _trainer(run, model, dataset)
            # Nearly nothing is held out: what is timed is training.
            split = dataclasses.replace(trainer.fold.split, test=trainer.fold.split.test[:1])
            trainer.fold = dataclasses.replace(trainer.fold, split=split)
            classes = len(run.protocol.labels)
            trainer.compiled.begin(build_model(model, recipe, classes, fused=True))
            stage = trainer.stage(1)
            seconds = _turns(_step_parts(trainer, stage, model), rounds)
        steps = -(-trainer.fold.split.train.size // recipe.batch_size)
        beyond = {
            way: round(1000 * (seconds[way] - seconds["kernels"]) / steps, 3)
            for way in ("epoch", "fit")
        }
        rates[model] = {
            "precision": choose_precision(recipe.precision),
            "batch_size": recipe.batch_size,
            "images_per_s": round(trainer.fold.split.train.size / seconds["epoch"], 1),
            "step_ms": round(1000 * seconds["kernels"] / steps, 3),
            "beyond_kernels_ms": beyond,
        }
        keras.backend.clear_session()
    return rates


def run_protocol(
    model: str, dataset: Dataset, data: str, folder: Path, folds: int
) -> dict[str, Any]:
    """Run published folds of a model, in the trainer's own way, and time them.

    What stands in ``folder`` from an earlier call counts with what it took then; a fold that was
    stopped is trained anew, from its first epoch.

    Args:
        model: A transfer model.
        dataset: The images of all folds.
        data: Their name.
        folder: Of the run.
        folds: How many of the ten are run; each other one has as many images and steps.

    Returns:
        Minutes of the features, which all folds share, and of each fold; those of all ten.
    """
    import keras

    # As with ImageNet's weights, one backbone for all folds: random weights differ by fold.
    weights = folder.with_suffix(".weights.h5")
    builder = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}[model]
    if not weights.exists():
        weights.parent.mkdir(parents=True, exist_ok=True)
        builder(include_top=False, weights=None, input_shape=(48, 48, 3)).save_weights(weights)
    protocol = Protocol(data, folds=FOLDS, **PROTOCOL_DEFAULTS["thesis"])
    recipe = recipe_for("thesis", model, {"weights": str(weights)})
    run = plan_run(folder, protocol, {model: recipe}, dataset)
    kept = folder / "minutes.json"
    minutes: dict[str, Any] = {"features": None, "folds": []}
    if kept.exists():
        minutes = json.loads(kept.read_text())

    def keep() -> None:
        kept.write_text(json.dumps(minutes))

    if minutes["features"] is None:
        keras.config.set_dtype_policy(choose_precision(recipe.precision))
        trainer = FoldTrainer(run.fold(model, 0), dataset)
        net = build_model(model, recipe, len(protocol.labels))
        minutes["features"] = _seconds(lambda: _features(trainer, net)) / 60
        keep()
    for fold in pending(run, [model])[: folds - len(minutes["folds"])]:
        shutil.rmtree(fold.folder, ignore_errors=True)
        minutes["folds"].append(_seconds(lambda fold=fold: run_here(dataset, [fold])) / 60)  # type: ignore[misc]
        keep()
    found = [round(taken, 2) for taken in minutes["folds"]]
    total = minutes["features"] + FOLDS * statistics.mean(minutes["folds"])
    return {
        "features_minutes": round(minutes["features"], 2),
        "fold_minutes": found,
        "ten_folds_minutes": round(total, 1),
    }


@click.command()
@click.option("--data", help="FER-2013.  [default: drawn faces; the work is the same]")
@click.option("--images", type=click.IntRange(64), help="[default: 1024, with --short 256]")
@click.option("--rounds", type=click.IntRange(1), help="[default: 5, with --short 1]")
@click.option("--short", is_flag=True, help="Fewer images and rounds.")
@click.option("--models", type=NameList(KERAS_MODELS), default=",".join(KERAS_MODELS))
@click.option(
    "--full",
    "folds",
    type=click.IntRange(1, FOLDS),
    help="Run so many of the ten published folds of the transfer models on all images.",
)
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path),
    help="Keep --full's folds there, and go on from those that are there.",
)
@json_option
def main(
    data: str | None,
    images: int | None,
    rounds: int | None,
    short: bool,
    models: tuple[str, ...],
    folds: int | None,
    folder: Path | None,
    json_path: Path | None,
) -> None:
    """Print the work of both ways; exit 1 above the thesis's minutes or below 20 times less."""
    transfer = [model for model in models if model in TRANSFER_MODELS]
    content: dict[str, Any] = {"device": describe_device()}
    failed = False
    if folds:
        source = data or f"synthetic:{FER_IMAGES}"
        dataset = load_dataset(source)
        content["full"] = {"images": len(dataset), "models": {}}
        for model in transfer:
            with tempfile.TemporaryDirectory() as name:
                place = (folder or Path(name)) / model
                row = run_protocol(model, dataset, source, place, folds)
            content["full"]["models"][model] = row
            failed |= row["ten_folds_minutes"] > MOST_MINUTES
            print(
                f"{model:<12}features {row['features_minutes']:.1f} minutes, {folds} of {FOLDS} "
                f"folds of {EPOCHS} epochs {sum(row['fold_minutes']):.1f}; "
                f"all ten {row['ten_folds_minutes']:.1f}"
            )
    else:
        count = images or (256 if short else 1024)
        rounds = rounds or (1 if short else 5)
        source = data or f"synthetic:{count}"
        dataset = load_dataset(source, limit=count)
        content |= {"rounds": rounds, "frozen": {}}
        for model in transfer:
            row = content["frozen"][model] = compare_frozen(model, dataset, source, rounds)
            scaled = row["extrapolated"]
            failed |= scaled["features_once_minutes"] > MOST_MINUTES
            failed |= row["work_ratio"] < LEAST_RATIO
            print(
                f"{model:<12}features {row['features_images_per_s']:.0f} images/s, "
                f"head {row['head_step_ms']:.1f} ms a step, {row['precision']}; "
                f"{FOLDS} folds of {EPOCHS} epochs, extrapolated: "
                f"{scaled['features_once_minutes']:.0f} minutes, through the backbone "
                f"{scaled['through_backbone_minutes']:.0f}: {row['time_ratio']:.1f} times as many, "
                f"and {row['work_ratio']:.1f} times the operations"
            )
        content["steps"] = step_rates(models, dataset, source, rounds)
        for model, rate in content["steps"].items():
            print(
                f"{model:<12}training step: {rate['images_per_s']:.0f} images/s, "
                f"batch {rate['batch_size']}, {rate['precision']}; "
                f"{rate['step_ms']:.2f} ms a step, and beyond the kernels "
                f"{rate['beyond_kernels_ms']['epoch']:.2f} ms "
                f"(by Keras's fit {rate['beyond_kernels_ms']['fit']:.2f} ms)"
            )
    write_results(json_path, content)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
