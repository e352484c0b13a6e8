"""The short form of all benchmarks, one after the other, in under ten minutes on two cores.

Each writes NAME.json into benchmarks/results; the README's tables and pictures follow from these.
What another package, a data set or a file is needed for is left out without it, and said.

    make bench
    make bench DATA=fer2013.zip VOTES=fer2013new.csv PEER=FOLDER DETECTOR_MODEL=yunet.onnx
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.browser import chromium
from benchmarks.exported import EXPORTED, emotion_models
from fer_edge.inference.locate import find_model
from fer_edge.web.page import page_folder

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Job:
    """A benchmark's run.

    Attributes:
        script: Name of its file without ``.py``.
        arguments: Those of its short form.
        result: Name of its results file without ``.json``; the script's where empty.
        left_out: Why it does not run, or "".
    """

    script: str
    arguments: tuple[str, ...] = ()
    result: str = ""
    left_out: str = ""


def jobs(
    data: str | None, votes: str | None, peer: str | None, detector_model: str | None
) -> Iterator[Job]:
    """Yield the short form of each benchmark."""
    given = ("--data", data) if data else ()
    voted = (*given, "--votes", votes) if votes else given
    no_images = "" if data else "it needs real images: give DATA=FILE"
    yield Job("startup", ("--runs", "7"))
    yield Job("throughput", ("--files", "512", "--rounds", "3"))
    yield Job("video", ("--frames", "150", "--rounds", "3"))
    page = chromium() and page_folder() / "node_modules"
    yield Job(
        "browser",
        left_out="" if page and page.is_dir() else "it needs Chromium and `npm ci --prefix web`",
    )
    yield Job("memory", ("--frames", "1500"))
    yield Job("detectors", ("--detector-model", detector_model) if detector_model else ())
    yield Job(
        "alignment",
        (*voted, "--count", "200") if data else ("--data", "-"),
        left_out=no_images,
    )
    yield Job(
        "prior",
        voted if data and votes else ("--data", "-", "--votes", __file__),
        left_out=no_images or ("" if votes else "it needs votes: give VOTES=FILE"),
    )
    yield Job("fuzz", ("--pictures", "500", "--models", "60"))
    beside = ("--peer", peer) if peer else ()
    yield Job("latency", ("--batches", "1,64", "--rounds", "20", "--seconds", "30", *beside))
    yield Job("session_options", (str(find_model()), "--rounds", "8", "--seconds", "0.5"))
    yield Job("compatibility")
    yield Job("parity", ("--build", "sequential,edge", *given))
    files = emotion_models(EXPORTED)
    for name in sorted({path.name.partition(".")[0] for path in files}):
        forms = (EXPORTED / f"{name}.onnx", EXPORTED / f"{name}.int8.onnx")
        yield Job(
            "accuracy",
            (*(str(form) for form in forms if form.is_file()), *voted, "--usage", "PublicTest"),
            f"accuracy-{name}",
            no_images,
        )
    yield Job("training", ("--short", *given))


def run(job: Job, results: Path) -> bool | None:
    """Run one; return whether it is content, or None where it is left out."""
    if job.left_out:
        return None
    target = results / f"{job.result or job.script}.json"
    command = [sys.executable, str(HERE / f"{job.script}.py"), *job.arguments]
    return not subprocess.run([*command, "--json", str(target)], check=False).returncode


@click.command()
@click.option("--data", help="FER-2013, for those that measure on real images.")
@click.option("--votes", help="Votes for its images, for those that score agreement with people.")
@click.option("--peer", help="Another package's model or a folder of some, for latency.py.")
@click.option("--detector-model", help="YuNet's ONNX file, for detectors.py.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=HERE / "results",
    help="[default: benchmarks/results]",
)
def main(
    data: str | None,
    votes: str | None,
    peer: str | None,
    detector_model: str | None,
    results: Path,
) -> None:
    """Run all; exit 1 if one failed or found a figure beyond its limit."""
    results.mkdir(parents=True, exist_ok=True)
    told = []
    good = True
    for job in jobs(data, votes, peer, detector_model):
        name = job.result or job.script
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        content = run(job, results)
        seconds = time.perf_counter() - start
        verdict = {None: f"left out: {job.left_out}", True: "ok", False: "NOT OK"}[content]
        told.append(f"{name:24}{seconds:6.0f} s  {verdict}")
        good &= content is not False
    print("\n".join(["== all", *told]))
    if not good:
        sys.exit(1)


if __name__ == "__main__":
    main()
