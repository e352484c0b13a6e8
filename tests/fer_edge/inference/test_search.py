import numpy as np

from fer_edge.inference.search import decode, overlaps, search, suppress

STRIDES = (8, 16, 32)


def maps_of(height, width):
    return [
        np.full((1, 15, height // stride, width // stride), -9, np.float32) for stride in STRIDES
    ]


def test_decode_reads_a_cell_in_strides_from_its_middle():
    maps = maps_of(64, 96)
    shift = np.arange(10, dtype=np.float32) / 10
    maps[1][0, :, 2, 4] = [0.0, 0.25, -0.5, np.log(2), np.log(3), *shift]
    found = decode(maps, STRIDES, 0.4)
    # Row 2, column 4 of stride 16: its middle is (72, 40).
    np.testing.assert_allclose(found.boxes, [[76 - 16, 32 - 24, 76 + 16, 32 + 24]], rtol=1e-6)
    np.testing.assert_allclose(found.scores, [0.5])
    expected = np.array([72, 40]) + 16 * shift.reshape(5, 2)
    np.testing.assert_allclose(found.points, expected[None], rtol=1e-6)


def test_decode_leaves_out_cells_at_the_least_score():
    maps = maps_of(32, 32)
    maps[0][0, 0, 1, 1] = 0.0
    assert len(decode(maps, STRIDES, 0.5).scores) == 0
    assert len(decode(maps, STRIDES, 0.49).scores) == 1


def test_suppression_keeps_the_surest_of_boxes_that_overlap():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [6, 0, 16, 10]], np.float32)
    kept = suppress(boxes, np.array([0.7, 0.9, 0.8], np.float32), overlap=0.4)
    # The second beats the first (overlap 9 / 11); the third overlaps it by 5 / 15 alone.
    assert kept.tolist() == [1, 2]


def test_overlap_of_boxes():
    one = np.array([[0, 0, 10, 10]], np.float32)
    other = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose(overlaps(one, other), [[1, 1 / 3, 0]], rtol=1e-6)


def test_search_gives_boxes_in_the_pixels_of_a_picture_that_it_made_smaller():
    seen = []

    def run(image):
        seen.append(image)
        maps = maps_of(*image.shape[2:])
        maps[2][0, :, 0, 1] = [3, 0, 0, 0, 0, *[0] * 10]
        return maps

    frame = np.full((500, 1280, 3), 200, np.uint8)
    found = search(run, frame, strides=STRIDES, least=0.5, overlap=0.4, side=640)
    assert seen[0].shape == (1, 3, 256, 640)
    assert seen[0][0, :, 249, 639].tolist() == [200] * 3
    assert seen[0][0, :, 250, 639].tolist() == [114] * 3  # padded to a multiple of 32
    np.testing.assert_allclose(found.boxes, [[64, 0, 128, 64]], rtol=1e-6)
    np.testing.assert_allclose(found.points[0], [[96, 32]] * 5, rtol=1e-6)
