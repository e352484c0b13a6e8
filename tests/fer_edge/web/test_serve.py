"""The server of ``fer-edge web``: what it hands out, to whom, and what it is told to say."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from fer_edge import EMOTIONS
from fer_edge.cli import main
from fer_edge.errors import DependencyError, ModelError
from fer_edge.web.page import RUNTIME, PageOptions, page_files, page_folder
from fer_edge.web.serve import PageServer
from tests.support.tiny_onnx import save_torch_like_onnx

ROOT = Path(__file__).parents[3]
VERSION = json.loads((page_folder() / "package.json").read_text())["dependencies"][RUNTIME]


def install_runtime(folder, version=VERSION):
    """Make what npm makes: the server hands it out and never looks inside."""
    dist = folder / RUNTIME / "dist"
    dist.mkdir(parents=True)
    (dist.parent / "package.json").write_text(json.dumps({"version": version}))
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (dist / name).write_bytes(b"made")
    (dist / "secret.txt").write_text("not for the page")
    return folder


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    return install_runtime(tmp_path_factory.mktemp("npm") / "node_modules")


@pytest.fixture(scope="module")
def server(modules):
    with PageServer("127.0.0.1", 0, page_files(PageOptions(), {}, modules)) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()


def ask(server, path, method="GET", host=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


@pytest.mark.parametrize(
    ("path", "kind", "begin"),
    [
        ("/", "text/html; charset=utf-8", b"<!doctype html>"),
        ("/index.html?x=1", "text/html; charset=utf-8", b"<!doctype html>"),
        ("/style.css", "text/css; charset=utf-8", b":root"),
        ("/app.js", "text/javascript; charset=utf-8", b"//"),
        ("/icon.svg", "image/svg+xml", b"<svg"),
        ("/settings.json", "application/json", b"{"),
        ("/runtime/ort.wasm.min.mjs", "text/javascript; charset=utf-8", b"made"),
        ("/runtime/ort-wasm-simd-threaded.wasm", "application/wasm", b"made"),
        ("/models/classifier/edge.onnx", "application/octet-stream", b"\x08"),
        ("/models/detector/face.onnx", "application/octet-stream", b"\x08"),
    ],
)
def test_what_the_page_needs_is_served_with_its_type(server, path, kind, begin):
    answer, body = ask(server, path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == kind
    assert int(answer.headers["Content-Length"]) == len(body)
    assert body.startswith(begin)
    head, nothing = ask(server, path, "HEAD")
    assert head.headers["Content-Length"] == str(len(body)) and nothing == b""


def test_nothing_is_loaded_from_elsewhere_or_sent_there(server):
    for path in ("/", "/worker.js", "/settings.json", "/nothing"):
        headers = ask(server, path)[0].headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'" and policy["form-action"] == "'none'"
        assert policy["connect-src"] == policy["worker-src"] == "'self'"
        assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    [
        "/models/",
        "/models",
        "/runtime/",
        "/runtime/secret.txt",
        "/package.json",
        "/../pyproject.toml",
        "/%2e%2e/pyproject.toml",
        "/runtime/../package.json",
        "/models/classifier/..%2f..%2fpyproject.toml",
        "//etc/passwd",
        "/etc/passwd",
        "/index.html%00",
    ],
)
def test_no_other_file_and_no_listing_is_served(server, path):
    assert ask(server, path)[0].status == 404


def test_nothing_can_be_sent_to_it(server):
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, "/", method)[0].status == 501


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:9000", 200),
        ("[::1]:80", 200),
        (socket.gethostname(), 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("[", 421),
    ],
)
def test_another_sites_name_is_not_answered(server, host, status):
    assert ask(server, "/settings.json", host=host)[0].status == status


def settings(options, description=None, **more):
    return json.loads(page_files(options, description or {}, **more)["/settings.json"])


def test_the_page_is_told_what_models_say_of_themselves(modules):
    told = settings(PageOptions(min_face=12, searched=None, align=False), node_modules=modules)
    classifier = told["classifier"]
    assert classifier["spec"]["labels"] == list(EMOTIONS)
    assert classifier["spec"]["input_size"] == [48, 48]
    assert classifier["files"] == ["/models/classifier/edge.onnx"]
    assert classifier["reading"] == [["probabilities", 7]]
    assert (classifier["fixed_batch"], classifier["least_tilt"]) == (None, None)
    assert told["detector"]["strides"] == [8, 16, 32]
    assert (told["detector"]["min_face"], told["detector"]["max_side"]) == (12, None)
    # Okabe and Ito's vermilion, the first of the palette.
    assert told["colors"]["angry"] == "#d55e00"


def test_models_of_other_makers_are_described_with_flags(tmp_path, modules):
    model = save_torch_like_onnx(tmp_path / "other.onnx", batch=4)
    with pytest.raises(ModelError, match="carries no fer-edge metadata"):
        page_files(PageOptions(model=str(model)), {}, modules)
    description = {"labels": EMOTIONS, "color": "rgb", "range": (0.0, 1.0), "outputs": "logits"}
    description |= {"input_size": (32, 32), "layout": "nchw"}
    told = settings(PageOptions(model=str(model)), description, node_modules=modules)
    assert told["classifier"]["spec"]["outputs"] == "logits"
    assert told["classifier"]["fixed_batch"] == 4


def test_without_npms_folder_it_says_how_to_get_it(tmp_path):
    with pytest.raises(DependencyError, match=rf"{RUNTIME} {VERSION}.*npm ci --prefix"):
        page_files(PageOptions(), {}, tmp_path)
    install_runtime(tmp_path, "1.0.0")
    with pytest.raises(DependencyError, match=r"received 1\.0\.0; run: npm ci"):
        page_files(PageOptions(), {}, tmp_path)
    result = CliRunner().invoke(main, ["web", "--node-modules", str(tmp_path), "--no-open"])
    assert result.exit_code == 1
    assert "--node-modules DIR/node_modules" in result.stderr


def test_a_port_that_is_taken_is_told(server, modules):
    port = str(server.server_port)
    result = CliRunner().invoke(
        main, ["web", "--port", port, "--node-modules", str(modules), "--no-open"]
    )
    assert result.exit_code == 1
    assert f"127.0.0.1, port {port}" in result.stderr and "another --port" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
@pytest.mark.parametrize(
    ("flags", "warned"), [([], False), (["--host", "0.0.0.0"], True), (["-q"], False)]
)
def test_it_serves_until_ctrl_c_and_warns_where_others_reach_it(modules, flags, warned):
    command = ["web", "--port", "0", "--no-open", "--node-modules", modules, *flags]
    with subprocess.Popen(
        [sys.executable, "-m", "fer_edge", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        url = process.stdout.readline().strip()
        host = url.removeprefix("http://").removesuffix("/")
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert ("Warning" in said) is warned
    assert "Traceback" not in said and (not said if "-q" in flags else "Ctrl-C" in said)
