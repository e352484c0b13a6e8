"""Descriptions of well-known models of other makers, as their own code feeds and reads them."""

from dataclasses import dataclass

from fer_edge.contract import Description

_AFFECTNET_8 = (
    *("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
)
_AFFECTNET_7 = tuple(label for label in _AFFECTNET_8 if label != "contempt")


@dataclass(frozen=True)
class Preset:
    """How a well-known model is fed and read.

    Attributes:
        files: Names under which its makers publish it.
        source: Where its makers say, or show in code, what stands here.
        description: What a user would have to say otherwise.
    """

    files: tuple[str, ...]
    source: str
    description: Description


def _emotiefflib(labels: tuple[str, ...], affect: tuple[str, ...] = ()) -> Description:
    """EmotiEffLib's EfficientNets take faces as ImageNet's networks do and give logits."""
    return Description(
        labels=labels,
        affect=affect,
        input_size=(224, 224),
        layout="nchw",
        color="rgb",
        range=(0.0, 1.0),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        outputs="logits",
    )


_EMOTIEFFLIB = "https://github.com/sb-ai-lab/EmotiEffLib, emotiefflib/facial_analysis.py"

PRESETS = {
    "ferplus": Preset(
        ("emotion-ferplus-8.onnx", "emotion-ferplus-7.onnx", "emotion-ferplus-12-int8.onnx"),
        "https://github.com/onnx/models, vision/body_analysis/emotion_ferplus/README.md",
        # Levels are scaled inside of the graph.
        Description(
            labels=(
                *("neutral", "happiness", "surprise", "sadness"),
                *("anger", "disgust", "fear", "contempt"),
            ),
            input_size=(64, 64),
            layout="nchw",
            color="gray",
            range=(0.0, 255.0),
            outputs="logits",
        ),
    ),
    "emotiefflib-8": Preset(
        ("enet_b0_8_best_vgaf.onnx", "enet_b0_8_best_afew.onnx"),
        _EMOTIEFFLIB,
        _emotiefflib(_AFFECTNET_8),
    ),
    "emotiefflib-7": Preset(("enet_b0_7.onnx",), _EMOTIEFFLIB, _emotiefflib(_AFFECTNET_7)),
    "emotiefflib-8-va": Preset(
        ("enet_b0_8_va_mtl.onnx",),
        _EMOTIEFFLIB,
        _emotiefflib(_AFFECTNET_8, ("valence", "arousal")),
    ),
    "opencv-zoo": Preset(
        ("facial_expression_recognition_mobilefacenet_2022july.onnx",),
        "https://github.com/opencv/opencv_zoo, "
        "models/facial_expression_recognition/facial_fer_model.py",
        # It was trained on faces that are turned upright and centred by their landmarks.
        Description(
            labels=("angry", "disgust", "fearful", "happy", "neutral", "sad", "surprised"),
            input_size=(112, 112),
            layout="nchw",
            color="rgb",
            range=(-1.0, 1.0),
            outputs="logits",
        ),
    ),
}
"""Presets by name."""
