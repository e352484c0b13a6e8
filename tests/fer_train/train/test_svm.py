import cv2
import numpy as np
import pytest

from fer_train.data.synthetic import synthetic_faces
from fer_train.train.svm import gradient_histograms


@pytest.mark.skipif(not hasattr(cv2, "HOGDescriptor"), reason="OpenCV 5 has none to compare with")
def test_histograms_are_those_of_opencv():
    images = np.concatenate(
        [
            synthetic_faces(300, 0)[0],
            np.random.default_rng(0).integers(0, 256, (20, 48, 48), np.uint8),
            np.zeros((1, 48, 48), np.uint8),
        ]
    )
    descriptor = cv2.HOGDescriptor((48, 48), (16, 16), (8, 8), (8, 8), 9)
    wanted = np.stack([descriptor.compute(image) for image in images])
    found = gradient_histograms(images)
    assert found.dtype == np.float32
    # Its arctangent is an approximation.
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_an_edge_votes_for_its_own_direction():
    image = np.zeros((1, 48, 48), np.uint8)
    image[:, :, 24:] = 255
    histogram = gradient_histograms(image).reshape(25, 4, 9).sum(axis=(0, 1))
    # Across the edge is 0 degrees, between the last bin and the first.
    assert histogram[[0, 8]] == pytest.approx(histogram.sum() / 2)
