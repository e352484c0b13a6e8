"""What every test of the trainer starts from."""

import math
import sys
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def float32_afterwards() -> Iterator[None]:
    """Set Keras back to float32 after a test that trained in another precision and was stopped."""
    yield
    if keras := sys.modules.get("keras"):
        keras.config.set_dtype_policy("float32")


@pytest.fixture
def bfloat16_without_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``auto`` choose bfloat16, and losses be no numbers in it."""
    from fer_train.network.loops import _TensorFlowLoops

    monkeypatch.setattr(
        "fer_train.train.fold.choose_precision",
        lambda asked: "mixed_bfloat16" if asked == "auto" else asked,
    )
    normal = _TensorFlowLoops.train

    def train(self: Any, *arguments: Any) -> tuple[float, Any]:
        loss, answers = normal(self, *arguments)
        return (loss if self.network.dtype_policy.name == "float32" else math.nan), answers

    monkeypatch.setattr(_TensorFlowLoops, "train", train)
