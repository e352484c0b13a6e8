"""Processes that share the folds of a run: a stand-in trains them, and one of them dies."""

import sys
from pathlib import Path

import pytest

from fer_edge.errors import RunError
from fer_train.train import schedule
from tests.support.fake_runs import make_run

_STAND_IN = """#!{python}
import os, sys
flags = dict(zip(sys.argv[4::2], sys.argv[5::2]))
fold = flags["--fold"]
while fold:
    with open({log!r}, "a") as log:
        log.write(f"{{os.getpid()}} {{flags['--model']}} {{fold}}\\n")
    if (flags["--model"], fold) in (("edge", "1"), ("edge", "4")):
        if fold == "1":
            os._exit(9)
        print("failed", flush=True)
    else:
        print("done", flush=True)
    fold = sys.stdin.readline().strip()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script")
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_process_keeps_to_a_model_and_a_dead_one_costs_one_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    log, stand_in = tmp_path / "log", tmp_path / "python"
    stand_in.write_text(_STAND_IN.format(python=sys.executable, log=str(log)))
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    run = make_run(tmp_path / "run", ("edge", "sequential"), folds=5)
    folds = [fold for model in run.recipes for fold in run.folds_of(model)]
    done: list[tuple[str, int]] = []
    told = "edge fold 1, edge fold 4 failed, and the others, if any, are done"
    with pytest.raises(RunError, match=told):
        schedule.run_in_subprocesses(folds, jobs, done.append)
    assert sorted(done) == sorted({fold.id for fold in folds} - {("edge", 1), ("edge", 4)})
    begun = [line.split() for line in log.read_text().splitlines()]
    assert len(begun) == len(folds)
    processes = {process: model for process, model, _ in begun}
    assert all(processes[process] == model for process, model, _ in begun)
    # One for each model, one more after the one that died, and helpers where there are any.
    assert len(processes) == 3 if jobs == 1 else 3 <= len(processes) <= 5
