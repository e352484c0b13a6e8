"""Damaged files, a few of them; FER_EDGE_FUZZ=10 tries ten times as many."""

import os

import pytest

from benchmarks import fuzz
from tests.support.models import save_brightness_model

TIMES = int(os.environ.get("FER_EDGE_FUZZ", "1"))


@pytest.fixture
def model(tmp_path):
    return save_brightness_model(tmp_path / "tiny.onnx")


def test_every_damaged_picture_is_a_record(model):
    count = 200 * TIMES
    found = fuzz.fuzz_pictures(count, seed=1, model=model, timeout_s=120 * TIMES)
    assert found["records"] == count
    assert found["tracebacks"] == 0
    assert found["exit_code"] == 1
    assert found["by_status"]["ok"] > 0
    assert found["by_status"]["error"] > count / 3


def test_damaged_models_are_refused_or_run(model):
    count = 60 * TIMES
    found = fuzz.fuzz_models(count, seed=1, model=model, timeout_s=120 * TIMES)
    assert found["crashed"] == []
    assert found["refused"] + found.get("run", 0) == count


def test_the_fuzzer_notices_a_crash(model, monkeypatch):
    monkeypatch.setattr(
        fuzz,
        "_RUN_MODELS",
        fuzz._RUN_MODELS.replace("    try:", "    import os; os.abort()\n    try:"),
    )
    assert fuzz.fuzz_models(2, seed=1, model=model, timeout_s=60)["crashes"] == 2
