"""Frames per second of the page of ``fer-edge web``, in a headless Chromium.

A camera that shows the tests' portrait, 640 x 480 at 30 frames a second, is watched with the
default models and with their int8 forms. It needs Chromium, its driver, and what npm brings.

    python benchmarks/browser.py --json benchmarks/results/browser.json
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import cv2
from selenium import webdriver

from benchmarks.machine import json_option, write_results
from fer_edge.image.read import read_image

ROOT = Path(__file__).parents[1]
PORTRAIT = ROOT / "tests/data/portrait.jpg"
FORMS = {
    "float32": (),
    "int8": ("--model", "edge.int8.onnx", "--detector-model", "face.int8.onnx"),
}
_READY_S = 60
_RATE = re.compile(r"([\d.]+) frames/s")


@contextmanager
def served(*flags: object) -> Iterator[str]:
    """Run ``fer-edge web`` with some flags and yield the page's address."""
    command = [sys.executable, "-m", "fer_edge", "web", "--port", "0", "--no-open", "-q"]
    with subprocess.Popen(
        [*command, *map(str, flags)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


def chromium() -> tuple[str, str] | None:
    """Return Chromium and its driver, or None where one of them is missing."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (program, driver) if program and driver else None


@contextmanager
def browser(program: str, driver: str, *flags: str) -> Iterator[webdriver.Chrome]:
    """Open Chromium without a window, and close it at the end."""
    options = webdriver.ChromeOptions()
    options.binary_location = program
    own = ["--headless=new", "--disable-gpu", "--window-size=1200,900", *flags]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        own += ["--no-sandbox", "--disable-dev-shm-usage"]
    for flag in own:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()


def camera_flags(folder: Path) -> tuple[str, ...]:
    """Return flags for a camera that shows the portrait, whose pictures are written to a folder."""
    frame = cv2.resize(read_image(PORTRAIT)[:300, 50:450], (640, 480))
    path = folder / "camera.mjpeg"
    path.write_bytes(cv2.imencode(".jpg", frame)[1].tobytes() * 30)
    return (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={path}",
    )


def wait_until_ready(page: webdriver.Chrome) -> None:
    """Wait until the page has loaded its models."""
    until = time.monotonic() + _READY_S
    while not page.find_element("id", "status").text.startswith("Ready"):
        if time.monotonic() > until:
            raise click.ClickException("the page did not load its models")
        time.sleep(0.1)


def measure(programs: tuple[str, str], flags: tuple[str, ...], seconds: float) -> dict[str, object]:
    """Watch the camera for some seconds; return the page's rate at the end, and its threads."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(*flags) as url,
        browser(*programs, *camera_flags(Path(folder))) as page,
    ):
        page.get(url)
        wait_until_ready(page)
        page.find_element("id", "camera").click()
        time.sleep(seconds)
        rate = _RATE.search(page.find_element("id", "past-title").text)
        if rate is None:
            raise click.ClickException("the page did not say its rate")
        about = page.find_element("id", "about").text
        return {"frames_per_s": float(rate[1]), "runs_on": about.partition("; ")[0]}


@click.command()
@click.option("--seconds", default=15.0, show_default=True, help="Of each form.")
@json_option
def main(seconds: float, json_path: Path | None) -> None:
    """Print the frames per second of each form."""
    programs = chromium()
    if programs is None:
        raise click.ClickException("install Chromium: apt install chromium chromium-driver")
    forms = {name: measure(programs, flags, seconds) for name, flags in FORMS.items()}
    for name, found in forms.items():
        print(f"{name:<10}{found['frames_per_s']:>6} frames/s  {found['runs_on']}")
    version = subprocess.run([programs[0], "--version"], capture_output=True, text=True)
    write_results(
        json_path,
        {
            "browser": version.stdout.strip(),
            "camera": {"width": 640, "height": 480},
            "forms": forms,
        },
    )


if __name__ == "__main__":
    main()
