"""What a model makes of single images: errors, disputed ones, where it looks, how it sorts them.

These blocks show pixels of the data set, so that a report has them only where that is asked for.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from fer_train.data.load import Dataset
from fer_train.report import plots
from fer_train.report.document import Block, Folded, Gallery, Picture, Text
from fer_train.report.votes import disputed_picture
from fer_train.run.evaluation import ModelEvaluation
from fer_train.run.folder import RunFold

_SHOWN = 24
_COLUMNS = 6
_EMBEDDED = 1500
"""Images that are sorted in the plane; t-SNE takes seconds for these."""


def image_blocks(
    evaluation: ModelEvaluation, dataset: Dataset, name: str, key: str
) -> Sequence[Block]:
    """Show images of a data set as a model sees them.

    Args:
        evaluation: The model.
        dataset: The images of its run.
        name: What the model is called.
        key: What the pictures' file names begin with.
    """
    pictures = _errors(evaluation, dataset, name, key)
    if dataset.votes is not None:
        predictions = evaluation.predictions
        predicted = np.full(len(dataset), "", object)
        emotions = np.asarray(evaluation.labels, object)
        predicted[predictions.index] = emotions[predictions.probabilities.argmax(axis=1)]
        pictures += disputed_picture(
            dataset.subset(predictions.index), f"{key}-disputed", predicted[predictions.index]
        )
    fold = next((each for each in evaluation.folds if each.keras_file.is_file()), None)
    blocks: list[Block] = [Gallery(pictures, wide=True)] if pictures else []
    if fold is not None:
        blocks += _network_blocks(evaluation, fold, dataset, name, key)
    return [Folded("Images", blocks)] if blocks else []


def _errors(evaluation: ModelEvaluation, dataset: Dataset, name: str, key: str) -> list[Picture]:
    """Show the wrong predictions of the highest probability."""
    predictions, labels = evaluation.predictions, evaluation.labels
    wrong = np.flatnonzero(~predictions.right)
    confidence = predictions.probabilities.max(axis=1)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:_SHOWN]
    if not worst.size:
        return []
    predicted = predictions.probabilities.argmax(axis=1)
    titles = [
        f"{labels[true]}, said\n{labels[guess]} {share:.0%}"
        for true, guess, share in zip(
            predictions.labels[worst], predicted[worst], confidence[worst], strict=True
        )
    ]
    images = [dataset.images[predictions.index[place]] for place in worst]
    figure = plots.image_grid(images, titles, _COLUMNS, f"{name}: surest errors")
    alt = f"{name}: the surest errors, each below its label and the prediction"
    return [Picture(f"{key}-errors", alt, plots.to_png(figure))]


def _network_blocks(
    evaluation: ModelEvaluation, fold: RunFold, dataset: Dataset, name: str, key: str
) -> list[Block]:
    from fer_train.network.models import load_trained
    from fer_train.network.saliency import grad_cam, last_features

    net = load_trained(fold.keras_file, "a trained model", fold.recipe)
    predictions = evaluation.predictions
    own = np.flatnonzero(predictions.fold == fold.index)
    blocks: list[Block] = []
    shown = _one_of_each(evaluation, own)
    places = [place for pair in shown for place in pair if place is not None]
    predicted = predictions.probabilities.argmax(axis=1)
    images = dataset.images[predictions.index[places]]
    maps = grad_cam(net, images, predicted[places])
    if maps is not None:
        by_place = dict(zip(places, maps, strict=True))
        figure = plots.heat_rows(
            [
                [
                    None
                    if place is None
                    else (
                        dataset.images[predictions.index[place]],
                        by_place[place],
                        evaluation.labels[predicted[place]],
                    )
                    for place in row
                ]
                for row in zip(*shown, strict=True)
            ],
            evaluation.labels,
            ("right", "wrong"),
            f"{name}, fold {fold.index}: Grad-CAM",
        )
        alt = (
            f"{name}: for each emotion the surest right and the surest wrong prediction, with what "
            "speaks for the prediction in warm colours"
        )
        blocks.append(
            Gallery([Picture(f"{key}-grad-cam", alt, plots.to_png(figure, 150))], wide=True)
        )
    some = own[np.unique(np.linspace(0, own.size - 1, min(_EMBEDDED, own.size)).astype(int))]
    features = last_features(net, dataset.images[predictions.index[some]])
    if features is not None and len(some) > 3:
        figure = plots.embedding(
            _in_the_plane(features),
            predictions.labels[some],
            predictions.right[some],
            evaluation.labels,
            f"{name}, fold {fold.index}: t-SNE",
        )
        alt = (
            f"{name}: images of fold {fold.index} as points, near one another where the last "
            "layer sees them alike; colours are the true emotions, crosses wrong predictions"
        )
        blocks.append(Gallery([Picture(f"{key}-embedding", alt, plots.to_png(figure))]))
    if not blocks:
        return []
    about = (
        f"Grad-CAM and t-SNE are of the model of fold {fold.index}, on images that it did not "
        "train on. Grad-CAM (Selvaraju et al., 2017) warms what speaks for the prediction, right "
        "or wrong, on the last maps of 3 x 3 or more. t-SNE (van der Maaten and Hinton, 2008) "
        "keeps neighbours together; distances between groups and their sizes tell nothing."
    )
    return [*blocks, Text(about)]


def _one_of_each(
    evaluation: ModelEvaluation, own: NDArray[np.int64]
) -> list[tuple[int | None, int | None]]:
    """Return for each emotion the surest right and the surest wrong prediction for images of it."""
    predictions = evaluation.predictions
    confidence = predictions.probabilities.max(axis=1)
    found = []
    for label in range(len(evaluation.labels)):
        of_label = own[predictions.labels[own] == label]
        pair = []
        for right in (True, False):
            some = of_label[predictions.right[of_label] == right]
            pair.append(int(some[confidence[some].argmax()]) if some.size else None)
        found.append((pair[0], pair[1]))
    return found


def _in_the_plane(features: NDArray[np.float32]) -> NDArray[np.float32]:
    perplexity = min(30.0, (len(features) - 1) / 3)
    plane = TSNE(perplexity=perplexity, init="pca", random_state=0)
    return np.asarray(plane.fit_transform(features), np.float32)
