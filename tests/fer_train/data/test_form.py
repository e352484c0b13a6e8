"""Images of other sizes and colours than FER-2013's: read, drawn, compared."""

import cv2
import numpy as np
import pytest

from fer_edge.contract import ModelSpec
from fer_edge.errors import DataError
from fer_edge.inference.preprocess import prepare
from fer_train.data.duplicates import blank_images, duplicate_groups, identical_groups
from fer_train.data.form import Form
from fer_train.data.load import load_dataset
from fer_train.data.pixels import as_frames, grey_thumbnails, make_image, with_channels
from fer_train.data.synthetic import draw_face, synthetic_faces

RGB = Form(64, "rgb")


def put(folder, name, picture):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)


@pytest.fixture
def pictures(tmp_path):
    """Colour pictures of three sizes, one of them grey and one not square."""
    put(tmp_path, "happy/1.png", draw_face("happy", 120, seed=1))
    put(tmp_path, "happy/2.png", cv2.cvtColor(draw_face("happy", 48, seed=2), cv2.COLOR_BGR2GRAY))
    put(tmp_path, "sad/3.png", cv2.resize(draw_face("sad", 90, seed=3), (90, 120)))
    return tmp_path


def test_pictures_of_any_size_are_read_as_the_runtime_would_show_them_to_a_model(pictures):
    dataset = load_dataset(pictures, form=RGB)
    assert dataset.images.shape == (3, 64, 64, 3)
    assert dataset.images.dtype == np.uint8
    spec = ModelSpec(input_size=(64, 64), color="rgb")
    for image, name in zip(dataset.images, dataset.names, strict=True):
        frame = cv2.imread(str(pictures / str(name)))
        assert np.array_equal(image, prepare(frame, [None], spec)[0])
    # Red is first: skin is more red than blue.
    assert dataset.images[0, ..., 0].mean() > dataset.images[0, ..., 2].mean() + 5


def test_what_pictures_do_not_show_is_told(pictures):
    assert dict(load_dataset(pictures, form=RGB).remade) == {
        "enlarged to 64 x 64, which shows no more": 1,
        "grey, and the same in all three colours": 1,
    }
    assert not load_dataset(pictures, form=Form(48, "gray")).remade


def test_grey_images_of_other_sizes_have_no_axis_of_colours(pictures):
    dataset = load_dataset(pictures, form=Form(32, "gray"))
    assert dataset.images.shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (Form(), "expected 48 x 48 pixels, received 120 x 120; --image-size 48 scales"),
        (Form(color="rgb"), "expected 48 x 48 pixels, received 120 x 120"),
        (Form(size=64), "expected a grey picture, received one in colour; give --color gray"),
    ],
)
def test_what_nobody_asked_for_is_not_made(pictures, form, told):
    with pytest.raises(DataError) as error:
        load_dataset(pictures, form=form)
    assert told in error.value.message


def test_a_csv_of_grey_images_is_enlarged_and_that_is_told(tmp_path):
    images, _ = synthetic_faces(3)
    rows = [f"{code},{' '.join(map(str, image.ravel()))}" for code, image in enumerate(images)]
    (tmp_path / "a.csv").write_text("\n".join(["emotion,pixels", *rows]))
    dataset = load_dataset(tmp_path / "a.csv", form=RGB)
    assert np.array_equal(
        dataset.images[1], np.repeat(cv2.resize(images[1], (64, 64))[..., None], 3, 2)
    )
    assert dict(dataset.remade) == {
        "enlarged to 64 x 64, which shows no more": 3,
        "grey, and the same in all three colours": 3,
    }


def test_large_pictures_are_read_where_a_size_is_asked_for(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    put(tmp_path, "happy/1.png", noise)
    assert (tmp_path / "happy/1.png").stat().st_size > 65536
    assert load_dataset(tmp_path, form=RGB).images.shape == (1, 64, 64, 3)
    with pytest.raises(DataError, match=r"1\.png is too large; expected a 48 x 48"):
        load_dataset(tmp_path)


def test_faces_are_drawn_in_the_form_that_is_asked_for():
    grey, labels = synthetic_faces(3)
    coloured, same = synthetic_faces(3, form=Form(color="rgb"))
    assert coloured.shape == (3, 48, 48, 3)
    assert labels.tolist() == same.tolist()
    assert np.array_equal(grey_thumbnails(coloured), grey)
    assert synthetic_faces(2, form=RGB)[0].shape == (2, 64, 64, 3)


def test_copies_are_found_in_colour_and_at_any_size():
    faces, _ = synthetic_faces(6, form=RGB)
    brighter = np.clip(faces[:1].astype(int) + 6, 0, 255).astype(np.uint8)
    images = np.concatenate([faces, faces[2:3], brighter, np.full_like(faces[:1], (200, 30, 90))])
    assert identical_groups(images).tolist() == [0, 1, 2, 3, 4, 5, 2, 6, 7]
    assert duplicate_groups(images).tolist() == [0, 1, 2, 3, 4, 5, 2, 0, 6]
    # One colour shows nothing, however far its channels are apart.
    assert blank_images(images).tolist() == [False] * 8 + [True]


def test_images_are_handed_on_with_channels_and_in_the_order_of_frames():
    grey, coloured = np.zeros((2, 48, 48), np.uint8), np.zeros((2, 9, 9, 3), np.uint8)
    coloured[..., 0] = 7
    assert with_channels(grey).shape == (2, 48, 48, 1)
    assert with_channels(with_channels(grey)).shape == (2, 48, 48, 1)
    assert with_channels(coloured).shape == (2, 9, 9, 3)
    assert as_frames(grey) is grey
    assert as_frames(coloured)[0, 0, 0].tolist() == [0, 0, 7]
    assert np.array_equal(make_image(as_frames(coloured)[0], Form(9, "rgb")), coloured[0])
