import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from fer_edge.contract import (
    DESCRIPTION,
    EMOTIONS,
    Description,
    DetectorSpec,
    ModelSpec,
    detector_from_metadata,
    read_description,
    read_spec,
    spec_from_metadata,
)
from fer_edge.errors import ModelError
from fer_edge.inference.onnx_file import read_model

PRIOR = (0.088, 0.01, 0.031, 0.266, 0.143, 0.123, 0.339)


def test_each_thing_has_one_name_everywhere():
    names = {entry.name for entry in DESCRIPTION}
    assert names <= {field.name for field in fields(ModelSpec)}
    # What is done with the prior is an argument of that name; its shares are none.
    assert names - set(get_type_hints(Description)) == {"prior"}
    assert set(get_type_hints(Description)) < names


def test_a_spec_survives_its_metadata():
    spec = ModelSpec(
        labels=EMOTIONS,
        affect=("valence", "arousal"),
        color="rgb",
        range=(0.0, 1.0),
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.2, 0.2),
        prior=PRIOR,
        scores={"accuracy": 0.5},
        fold=3,
        licence="MIT",
    )
    metadata = spec.to_metadata()
    assert json.loads(metadata["fer_edge.schema"]) == 2
    assert json.loads(metadata["fer_edge.task"]) == "face-emotion"
    assert spec_from_metadata(metadata, "a.onnx") == spec


def test_a_detectors_spec_survives_its_metadata_and_is_no_classifiers():
    spec = DetectorSpec(strides=(4, 8, 16), threshold=0.65, side=512, licence="MIT")
    metadata = spec.to_metadata()
    assert detector_from_metadata(metadata, "face.onnx") == spec
    assert read_spec(metadata, "face.onnx") == spec
    with pytest.raises(ModelError, match=r"face-emotion, received face\.onnx, which is for face-d"):
        spec_from_metadata(metadata, "face.onnx")
    with pytest.raises(ModelError, match="Expected a model for face-detection"):
        detector_from_metadata(ModelSpec().to_metadata(), "edge.onnx")
    assert detector_from_metadata({}, "other.onnx") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"strides": "[]"}, "strides of 1 to 4096"),
        ({"strides": "8"}, "strides of 1 to 4096"),
        ({"points": '["nose", "nose"]'}, "names that differ as points"),
        ({"threshold": "2"}, "threshold from 0 to 1"),
        ({"overlap": '"much"'}, "overlap from 0 to 1"),
        ({"side": "0"}, "side of 1 to 4096"),
    ],
)
def test_damaged_detectors_are_refused(change, reason):
    metadata = DetectorSpec().to_metadata()
    metadata |= {f"fer_edge.{name}": value for name, value in change.items()}
    with pytest.raises(ModelError, match=reason):
        detector_from_metadata(metadata, "face.onnx")


def test_files_of_schema_version_1_stay_readable():
    # As version 1 wrote them, with a resizing that was never a choice.
    values = {
        "schema": 1,
        "labels": list(EMOTIONS),
        "input_size": [48, 48],
        "layout": "nchw",
        "color": "gray",
        "value_range": [0.0, 1.0],
        "mean": [0.5],
        "std": [0.25],
        "outputs": "logits",
        "margin": 0.1,
        "interpolation": "area",
        "model": "edge",
        "recipe": "modern",
        "fold": 2,
        "dataset": "fer2013.zip",
        "dataset_digest": "ab",
        "scores": {"accuracy": 0.6},
        "precision": "int8",
        "parent": "cd",
        "package_version": "0.1.0",
        "licence": "MIT",
    }
    metadata = {f"fer_edge.{name}": json.dumps(value) for name, value in values.items()}
    spec = spec_from_metadata(metadata, "old.onnx")
    assert spec == ModelSpec(
        layout="nchw",
        range=(0.0, 1.0),
        mean=(0.5,),
        std=(0.25,),
        outputs="logits",
        margin=0.1,
        model="edge",
        recipe="modern",
        fold=2,
        dataset="fer2013.zip",
        dataset_digest="ab",
        scores={"accuracy": 0.6},
        precision="int8",
        parent="cd",
        package_version="0.1.0",
        licence="MIT",
    )
    del metadata["fer_edge.value_range"]
    with pytest.raises(ModelError, match="Expected range in the fer-edge metadata"):
        spec_from_metadata(metadata, "old.onnx")


@pytest.mark.parametrize(
    "path", sorted(Path("exported").glob("*.onnx")), ids=lambda path: path.name
)
def test_shipped_files_are_readable(path):
    _, file = read_model(path)
    spec = read_spec(file.metadata, path.name)
    # exported/ holds MODEL[-VARIANT][.int8].onnx.
    assert spec.model == re.split(r"[-.]", path.name)[0]
    assert spec.precision == ("int8" if ".int8." in path.name else "fp32")
    assert spec.licence == "MIT"


def test_a_description_is_read_from_plain_values():
    values = {"input-size": 48, "channels": "bgr", "mean": 0.5, "labels": ["a", "b"], "margin": 1}
    assert read_description(values, "x.toml") == {
        "input_size": (48, 48),
        "color": "bgr",
        "mean": (0.5,),
        "labels": ("a", "b"),
        "margin": 1.0,
    }


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"colour": "rgb"}, "received 'colour'"),
        ({"labels": "abc"}, "a list of names"),
        ({"range": [0, 1, 2]}, "a lower and a higher number"),
        ({"mean": ["0.5"]}, "a number, received '0.5'"),
        ({"std": True}, "a number, received True"),
        ({"margin": 3}, "a margin from 0 to 2"),
        ({"input_size": [1, 2, 3]}, "height and width"),
        ({"color": 3}, "text, received 3"),
    ],
)
def test_what_cannot_be_read_is_named(values, reason):
    with pytest.raises(ValueError, match=reason):
        read_description(values, "x.toml")
