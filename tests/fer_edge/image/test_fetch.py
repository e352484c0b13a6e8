import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fer_edge.errors import ImageError
from fer_edge.image import fetch as module
from fer_edge.image.fetch import fetch, is_address, without_password
from fer_edge.image.read import read_image

PORTRAIT = Path(__file__).parents[2] / "data/portrait.jpg"


class Pictures(BaseHTTPRequestHandler):
    def do_GET(self):
        content = PORTRAIT.read_bytes()
        if self.path == "/missing.jpg":
            return self.send_error(404)
        if self.path == "/secret.jpg" and self.headers["Authorization"] != "Basic bWU6YSBi":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="pictures"')
            return self.end_headers()
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            return self.end_headers()
        self.send_response(200)
        if self.path == "/cut.jpg":
            self.send_header("Content-Length", str(2 * len(content)))
        self.end_headers()
        if self.path == "/drip.jpg":
            for start in range(0, len(content), 100):
                self.wfile.write(content[start : start + 100])
                time.sleep(0.05)
        elif self.path == "/silent.jpg":
            time.sleep(3)
        else:
            self.wfile.write(content)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as http:
        http.daemon_threads = True
        http.block_on_close = False
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_pictures_are_read_by_address(server):
    expected = read_image(PORTRAIT)
    assert np.array_equal(read_image(f"{server}/a.jpg"), expected)
    assert np.array_equal(read_image(f"{server}/to/{server}/a.jpg"), expected)
    secret = server.replace("//", "//me:a%20b@") + "/secret.jpg"
    assert np.array_equal(read_image(secret), expected)
    with pytest.raises(ImageError, match="answers 401") as refused:
        read_image(secret.replace("a%20b", "wrong"))
    assert "wrong" not in str(refused.value)
    with pytest.raises(ImageError, match="at most 1000 bytes"):
        read_image(f"{server}/a.jpg", max_bytes=1000)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.jpg", "the server answers 404 Not Found"),
        ("cut.jpg", "it ended after"),
        ("to/file:///etc/hostname", "is not allowed"),
        ("to/ftp://example.org/a.jpg", "it leads to ftp, not to"),
        ("a b.jpg", "cannot be read"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(server, path, reason):
    with pytest.raises(ImageError, match=reason):
        read_image(f"{server}/{path}")


def test_servers_are_not_waited_for_for_ever(server, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
    with pytest.raises(ImageError, match="too slow"):
        read_image(f"{server}/silent.jpg")
    monkeypatch.setattr(module, "_WHOLE_S", 0.5)
    with pytest.raises(ImageError, match=r"too slow: not done after 0\.5 s"):
        read_image(f"{server}/drip.jpg")


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1/a.jpg", "http://", "http://[::1/a.jpg", "https://no.such.host.invalid/a"],
)
def test_addresses_that_lead_nowhere_are_errors(address):
    with pytest.raises(ImageError, match=r"the address cannot be read: [^\[]"):
        fetch(address, 1000)


def test_addresses_are_known_and_shown_without_passwords():
    assert is_address("HTTPS://host/a.jpg")
    assert not is_address("ftp://host/a.jpg") and not is_address(Path("http://host"))
    assert without_password("http://me:secret@host/a@b.jpg") == "http://host/a@b.jpg"
    assert without_password("http://host/a@b.jpg?u=c@d") == "http://host/a@b.jpg?u=c@d"
