"""What every test of the trainer starts from."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def float32_afterwards() -> Iterator[None]:
    """Set Keras back to float32 after a test that trained in another precision and was stopped."""
    yield
    if keras := sys.modules.get("keras"):
        keras.config.set_dtype_policy("float32")
