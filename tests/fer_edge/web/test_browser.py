"""The page in a headless Chromium, driven as a user does: it answers as Python does."""

import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from selenium.webdriver import ActionChains, Keys

# Not by its name, which is that of a fixture.
from benchmarks import browser as benchmark
from fer_edge.cli import main
from fer_edge.web.page import RUNTIME, page_folder
from tests.support.clips import PORTRAIT
from tests.support.faces import ground
from tests.support.tiny_onnx import save_torch_like_onnx

PATIENCE_S = 120

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Return npm's folder: the page's own, or one made from its lock file."""
    there = page_folder() / "node_modules"
    if (there / RUNTIME).is_dir():
        return there
    if not shutil.which("npm"):
        pytest.skip("npm is not installed (apt install npm), nor is the page's onnxruntime-web")
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(page_folder() / name, folder)
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"npm cannot get onnxruntime-web: {done.stderr[-300:]}")
    return folder / "node_modules"


@pytest.fixture
def served(modules):
    return partial(benchmark.served, "--node-modules", modules)


@pytest.fixture
def browser(tmp_path):
    """Return a function that opens an address in Chromium with further flags."""
    programs = benchmark.chromium()
    if programs is None:
        pytest.skip("Chromium is not installed; run: apt install chromium chromium-driver")
    with ExitStack() as stack:

        def start(url, *flags):
            page = stack.enter_context(benchmark.browser(*programs, *flags))
            page.set_script_timeout(PATIENCE_S)
            page.execute_cdp_cmd(
                "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
            )
            page.get(url)
            benchmark.wait_until_ready(page)
            return page

        yield start


def wait_for(condition):
    until = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < until, "the page did not get there"
        time.sleep(0.1)
    return found


def text(page, name):
    return page.find_element("id", name).text


def classify_in(page, pictures, folder, before=0):
    """Choose pictures on the page, which shows others from before; save and return its records."""
    page.find_element("id", "files").send_keys("\n".join(map(str, pictures)))
    count = before + len(pictures)
    wait_for(lambda: len(page.find_elements("css selector", "#rows tr")) == count)
    saved = folder / "faces.jsonl"
    page.find_element("id", "save").click()
    wait_for(saved.is_file)
    records = [json.loads(line) for line in saved.read_text("utf-8").splitlines()]
    saved.unlink()
    return records


def classify_here(pictures, *flags):
    command = ["classify", *map(str, pictures), "--format", "jsonl", "-q", *map(str, flags)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def turned(image, degrees):
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 0.8)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def group(height=900, width=1400):
    """Return portraits of several sizes and lights on a drawn ground."""
    portrait = cv2.imread(str(PORTRAIT))
    picture = ground(1, height, width)
    for number in range(8):
        side = 90 + 32 * number
        face = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
        face = cv2.convertScaleAbs(face, alpha=0.6 + 0.07 * number)
        left, top = 20 + number % 4 * 345, 20 + number // 4 * 400
        picture[top : top + side, left : left + side] = face[:, ::-1] if number % 2 else face
    return picture


def draw_pictures(folder):
    """Write ten pictures, one of them without a face, in the kinds that browsers read."""
    portrait = cv2.imread(str(PORTRAIT))
    height, width = portrait.shape[:2]
    fading = np.linspace(120, 255, width).astype(np.uint8)
    veil = np.broadcast_to(fading, (height, width))
    made = {
        "gray.png": cv2.cvtColor(portrait, cv2.COLOR_BGR2GRAY),
        "tilted.png": turned(portrait, 25),
        "group.png": group(),
        "large.jpg": cv2.resize(group(), None, fx=2.3, fy=2.3, interpolation=cv2.INTER_LINEAR),
        "cut.png": portrait[60:, 215:],
        "small.webp": cv2.resize(portrait, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA),
        "veiled.png": np.dstack([portrait, veil]),
        "nobody.bmp": ground(5, 300, 401),
    }
    for name, image in made.items():
        cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_WEBP_QUALITY, 101])
    # A camera's picture that is to be turned: EXIF with the one entry of orientation 6.
    jpeg = cv2.imencode(".jpg", cv2.rotate(portrait, cv2.ROTATE_90_COUNTERCLOCKWISE))[1].tobytes()
    entry = b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0"
    part = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (folder / "turned.jpg").write_bytes(jpeg[:2] + part + jpeg[2:])
    return [PORTRAIT, *(folder / name for name in made), folder / "turned.jpg"]


def compare(ours, theirs):
    """Compare the records of Python and of the page: boxes alike, probabilities to 1e-3."""
    assert len(ours) == len(theirs)
    for expected, received in zip(ours, theirs, strict=True):
        name = Path(expected["image"]).name
        assert received["image"] == name
        keys = [key for key in expected if key not in ("image", "faces")]
        assert {key: received[key] for key in keys} == {key: expected[key] for key in keys}, name
        boxes = [[face["box"] for face in record["faces"]] for record in (expected, received)]
        assert boxes[0] == boxes[1], name
        for face, other in zip(expected["faces"], received["faces"], strict=True):
            assert list(face) == list(other)
            assert other["detector_score"] == pytest.approx(face["detector_score"], abs=1e-3), name
            assert other["emotion"] == face["emotion"], name
            assert other["probabilities"] == pytest.approx(face["probabilities"], abs=1e-3), name


def test_pictures_are_answered_as_in_python(served, browser, tmp_path):
    pictures = draw_pictures(tmp_path)
    assert len(pictures) == 10
    with served() as url:
        page = browser(url)
        found = classify_in(page, pictures, tmp_path)
        assert text(page, "status") == "10 pictures done."
        loaded = page.execute_script(
            "return performance.getEntriesByType('resource').map(({ name }) => name)"
        )
        assert len(loaded) > 3 and all(name.startswith(url) for name in loaded)
        assert [one for one in page.get_log("browser") if one["level"] == "SEVERE"] == []
    expected = classify_here(pictures)
    counts = [len(record["faces"]) for record in expected]
    assert counts[0] == 1 and counts[3] >= 6 and counts[8] == 0
    compare(expected, found)


def test_small_faces_prior_and_one_sided_answers(served, browser, tmp_path):
    cv2.imwrite(str(tmp_path / "group.png"), group(1500, 2100))
    flags = ("--min-face", 12, "--no-mirror", "--prior", 0.5, "--no-align", "--uncertain", 0.6)
    with served(*flags) as url:
        found = classify_in(browser(url), [tmp_path / "group.png"], tmp_path)
    compare(classify_here([tmp_path / "group.png"], *flags), found)


def test_a_model_of_another_maker(served, browser, tmp_path):
    model = save_torch_like_onnx(tmp_path / "mine.onnx", batch=4)
    (tmp_path / "mine.toml").write_text(
        'labels = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]\n'
        'color = "rgb"\nrange = [0, 1]\nmean = [0.5, 0.4, 0.3]\nstd = [0.2, 0.3, 0.4]\n'
        'outputs = "logits"\nmargin = 0.2\n'
    )
    cv2.imwrite(str(tmp_path / "group.png"), group())
    with served("--model", model) as url:
        found = classify_in(browser(url), [tmp_path / "group.png"], tmp_path)
    compare(classify_here([tmp_path / "group.png"], "--model", model), found)


def test_what_is_no_picture_is_told(served, browser, tmp_path):
    (tmp_path / "none.png").write_bytes(b"nothing")
    with served() as url:
        page = browser(url)
        found = classify_in(page, [tmp_path / "none.png", PORTRAIT], tmp_path)
        assert [record["status"] for record in found] == ["error", "ok"]
        assert "Expected a picture that this browser reads" in found[0]["error"]
        assert page.find_element("id", "problem").aria_role == "alert"
        assert "none.png" in text(page, "problem")


def test_a_camera_is_watched_and_can_be_stopped(served, browser, tmp_path):
    with served() as url:
        page = browser(url, *benchmark.camera_flags(tmp_path))
        page.find_element("id", "camera").click()
        wait_for(lambda: "happy" in text(page, "status"))
        wait_for(lambda: "happy" in (page.find_element("id", "timeline").accessible_name or ""))
        assert text(page, "faces").startswith("happy")
        page.find_element("id", "stop").click()
        assert text(page, "status") == "Stopped."
        assert not page.execute_script("return document.getElementById('video').srcObject")


def test_it_is_used_by_keyboard_and_read_aloud(served, browser, tmp_path):
    with served() as url:
        page = browser(url)
        cv2.imwrite(str(tmp_path / "nobody.png"), ground(5, 300, 401))
        classify_in(page, [PORTRAIT], tmp_path)
        page.execute_script("document.getElementById('camera').focus()")
        names = [page.switch_to.active_element.accessible_name]
        for _ in range(5):
            ActionChains(page).send_keys(Keys.TAB).perform()
            names.append(page.switch_to.active_element.accessible_name)
        assert names == [
            "Use the camera", "Open pictures or a video", "Faces", "Save as JSON lines", "Clear",
            "portrait.jpg",
        ]  # fmt: skip
        view = page.find_element("id", "view")
        assert view.accessible_name.startswith("portrait.jpg: happy ")
        classify_in(page, [tmp_path / "nobody.png"], tmp_path, before=1)
        assert view.accessible_name == "nobody.png: no face found"
        page.find_element("css selector", "#rows button").send_keys(Keys.ENTER)
        wait_for(lambda: view.accessible_name.startswith("portrait.jpg: happy "))
        assert page.find_element("id", "status").aria_role == "status"
        refused = page.execute_async_script(
            "fetch('https://example.org').then(() => arguments[0](false), () => arguments[0](true))"
        )
        assert refused
