"""benchmarks/all.py: every short form is one that its benchmark takes."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

# Not by its name, which is that of a builtin.
from benchmarks import all as benchmarks

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"

JOBS = list(benchmarks.jobs("fer2013.zip", __file__, str(BENCHMARKS), "yunet.onnx"))


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(job, marks=[pytest.mark.tensorflow] if job.script == "training" else [])
        for job in JOBS
    ],
    ids=lambda job: job.result or job.script,
)
def test_its_arguments_are_known(job: benchmarks.Job) -> None:
    command = importlib.import_module(f"benchmarks.{job.script}").main
    command.make_context(job.script, [*job.arguments, "--json", "out.json"])


def test_every_benchmark_has_a_short_form() -> None:
    helpers = {"__init__", "all", "exported", "machine", "pictures", "tables"}
    scripts = {path.stem for path in BENCHMARKS.glob("*.py")} - helpers
    assert {job.script for job in JOBS} == scripts


def test_what_lacks_its_data_is_left_out() -> None:
    left_out = {job.script for job in benchmarks.jobs(None, None, None, None) if job.left_out}
    left_out.discard("browser")  # It depends on what is installed.
    assert left_out == {"alignment", "accuracy", "prior"}


def test_one_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, status in (("good", 0), ("bad", 1), ("last", 0)):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit({status})")

    def jobs(*_: object) -> Iterator[benchmarks.Job]:
        yield benchmarks.Job("bad")
        yield benchmarks.Job("good", left_out="it needs the moon")
        yield benchmarks.Job("last")

    monkeypatch.setattr(benchmarks, "HERE", tmp_path)
    monkeypatch.setattr(benchmarks, "jobs", jobs)
    done = CliRunner().invoke(benchmarks.main, ["--results", str(tmp_path)])
    assert done.exit_code == 1
    bad, good, last = done.stdout.splitlines()[-3:]
    assert bad.startswith("bad ") and bad.endswith("NOT OK")
    assert good.endswith("left out: it needs the moon")
    assert last.endswith(" s  ok")
