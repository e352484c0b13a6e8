import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fer_edge.errors import RunError
from fer_train.detection.export import to_onnx
from fer_train.detection.network import (
    STRIDES,
    build_detector,
    load_weights,
    named_weights,
    save_weights,
)
from fer_train.network._keras import keras

pytestmark = pytest.mark.tensorflow

TRIED = Path(os.environ.get("FER_SHARED", "../shared")) / "models" / "face-try"


def stirred(seed=0):
    """A network whose every weight counts, its normalisation's statistics included."""
    keras.utils.set_random_seed(seed)
    net = build_detector()
    random = np.random.default_rng(seed)
    for name, weight in named_weights(net):
        drawn = keras.ops.convert_to_numpy(weight).copy()
        if name.endswith(("gamma", "moving_variance")):
            drawn = random.uniform(0.5, 1.5, drawn.shape)
        elif drawn.ndim == 1:
            drawn = drawn + random.normal(0, 0.2, drawn.shape)
        weight.assign(drawn.astype(np.float32))
    return net


def pixels(height=64, width=96):
    return np.random.default_rng(1).uniform(0, 255, (1, height, width, 3)).astype(np.float32)


def test_at_most_four_hundred_thousand_parameters_and_a_map_a_stride():
    net = build_detector()
    assert net.count_params() <= 400_000
    shapes = [tuple(cell.shape) for cell in net(pixels())]
    assert shapes == [(1, 64 // stride, 96 // stride, 15) for stride in STRIDES]


def test_untrained_it_expects_no_face():
    logits = [np.asarray(cell)[..., 0] for cell in build_detector()(pixels())]
    assert len(logits) == len(STRIDES)
    assert max(float(np.max(1 / (1 + np.exp(-cells)))) for cells in logits) < 0.2


def test_weights_come_back_by_name():
    net, other = stirred(), stirred(1)
    load_weights(other, save_weights(net))
    for one, two in zip(net(pixels()), other(pixels()), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_a_smaller_network_s_weights_give_its_function():
    net = build_detector()
    smaller = {
        name: array
        for name, array in save_weights(stirred()).items()
        if not name.startswith(("stage8_4", "stage16_3"))
    }
    for stride in STRIDES:
        for kind in ("gamma", "beta", "moving_mean", "moving_variance"):
            smaller[f"head{stride}_norm/{kind}"] = smaller[f"head{stride}_norm/{kind}"][:32]
        smaller[f"head{stride}_conv/kernel"] = smaller[f"head{stride}_conv/kernel"][..., :32]
        smaller[f"output{stride}/kernel"] = smaller[f"output{stride}/kernel"][:, :, :32]
    load_weights(net, smaller)
    before = [np.asarray(cell) for cell in net(pixels())]
    # Whatever the new channels and the residual convolutions hold, nothing comes of it.
    for name, weight in named_weights(net):
        drawn = keras.ops.convert_to_numpy(weight).copy()
        if name.startswith(("stage8_4_conv", "stage16_3_conv")):
            weight.assign(drawn * 2 + 1)
        elif name.startswith("head") and name.endswith("conv/kernel"):
            drawn[..., 32:] += 1
            weight.assign(drawn)
    for one, two in zip(before, net(pixels()), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_weights_of_something_else_are_refused():
    net = build_detector()
    with pytest.raises(RunError, match="received others: dense/kernel"):
        load_weights(net, {"dense/kernel": np.zeros((2, 2))})
    arrays = save_weights(net)
    del arrays["stem_0_conv/kernel"]
    with pytest.raises(RunError, match="received none for stem_0_conv/kernel"):
        load_weights(net, arrays)
    arrays["stem_0_conv/kernel"] = np.zeros((3, 3, 3, 99), np.float32)
    with pytest.raises(RunError, match=r"stem_0_conv/kernel of shape \(3, 3, 3, 16\)"):
        load_weights(net, arrays)


def test_onnx_answers_as_keras_does_at_any_size():
    net = stirred()
    session = onnxruntime.InferenceSession(
        to_onnx(net).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for height, width in ((32, 64), (96, 64)):
        image = pixels(height, width)
        maps = session.run(None, {"image": image.transpose(0, 3, 1, 2)})
        for own, cell in zip(net(image, training=False), maps, strict=True):
            np.testing.assert_allclose(cell.transpose(0, 2, 3, 1), own, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not TRIED.is_dir(), reason="the tried weights are not at hand")
def test_the_tried_weights_answer_as_their_own_file_does():
    net = build_detector()
    load_weights(net, dict(np.load(TRIED / "weights.npz")))
    session = onnxruntime.InferenceSession(TRIED / "face.onnx", providers=["CPUExecutionProvider"])
    image = pixels(128, 96)
    maps = session.run(None, {session.get_inputs()[0].name: image.transpose(0, 3, 1, 2)})
    for own, cell in zip(net(image, training=False), maps, strict=True):
        np.testing.assert_allclose(own, cell.transpose(0, 2, 3, 1), atol=1e-4)
