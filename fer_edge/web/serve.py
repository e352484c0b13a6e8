"""``fer-edge web``: serves the page to browsers of this machine, and opens it."""

import ipaddress
import os
import shutil
import socket
import sys
import threading
import urllib.parse
import webbrowser
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from socketserver import TCPServer
from typing import Any

import click

from fer_edge._base.command import stop_on_signals, tell
from fer_edge.errors import FerError
from fer_edge.web.page import PageOptions, page_files

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
_OTHER_TYPE = "application/octet-stream"

# Nothing is loaded from elsewhere and nothing can be sent there. What isolates the page gives it
# the shared memory that WebAssembly's threads need.
_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self' 'wasm-unsafe-eval'",
            "worker-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob:",
            "media-src 'self' blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Another version of fer-edge may serve the next time.
    "Cache-Control": "no-store",
}


class PageServer(ThreadingHTTPServer):
    """Serves some files by their addresses, and nothing else."""

    daemon_threads = True
    # Elsewhere than on Windows it frees a port whose last owner has just ended.
    allow_reuse_address = os.name != "nt"
    allow_reuse_port = False

    def __init__(self, host: str, port: int, files: Mapping[str, Path | bytes]) -> None:
        """Take a port; 0 takes one that is free.

        Raises:
            FerError: The address is not this machine's, or taken.
        """
        self._host = host
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.address_family = found[0]
            super().__init__(found[4][:2], partial(_Handler, files=files, host=host))  # type: ignore[arg-type]
        except OSError as error:
            raise FerError(
                f"Cannot serve on {host}, port {port}: {error.strerror}; give another `port`, "
                "or an address of this machine as `host`"
            ) from error

    def server_bind(self) -> None:
        """Take the port, without asking the network for this machine's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self._host, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over browsers that have closed a connection, and tell of all else."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def is_local(self) -> bool:
        """Whether programs of this machine alone reach it."""
        return ipaddress.ip_address(str(self.server_address[0])).is_loopback

    @property
    def url(self) -> str:
        """What to open on this machine."""
        address = ipaddress.ip_address(str(self.server_address[0]))
        host = "localhost" if address.is_unspecified else str(address)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fer-edge"
    sys_version = ""

    def __init__(self, *args: Any, files: Mapping[str, Path | bytes], host: str) -> None:
        self._files = files
        self._host = host
        super().__init__(*args)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if not self._is_meant():
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        name = "/index.html" if path == "/" else path
        found = self._files.get(name)
        try:
            body = None if found is None else _open(found)
        except OSError:
            body = None
        if body is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with body:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", _TYPES.get(Path(name).suffix, _OTHER_TYPE))
            self.send_header("Content-Length", str(body.seek(0, os.SEEK_END)))
            self.end_headers()
            body.seek(0)
            if with_body:
                shutil.copyfileobj(body, self.wfile)

    def _is_meant(self) -> bool:
        """Tell whether a browser asked for this machine.

        Else another site could let its own name lead here, and read what is served.
        """
        try:
            name = urllib.parse.urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:
            return False
        if name in ("localhost", self._host.lower(), socket.gethostname().lower()):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: who looks at the page sees what it does."""


def _open(found: Path | bytes) -> Any:
    return BytesIO(found) if isinstance(found, bytes) else found.open("rb")


def serve_page(
    options: PageOptions,
    description: Mapping[str, Any],
    *,
    host: str,
    port: int,
    opens: bool,
    node_modules: Path | None,
    quiet: bool,
) -> int:
    """Serve the page until a signal comes, and return the exit status that tells which.

    Args:
        options: What the page does with pictures.
        description: What the user says of the model.
        host: Address or name of this machine; others than the loopback are warned of.
        port: The port, or 0 for one that is free.
        opens: Whether the page is opened in a browser where there is one.
        node_modules: As for `page_files`.
        quiet: Whether stderr is for errors alone.

    Raises:
        FerError: The page cannot be served.
    """
    files = page_files(options, description, node_modules)
    with PageServer(host, port, files) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        stopped = threading.Event()
        with stop_on_signals(stopped.set) as signals:
            thread.start()
            click.echo(server.url)
            sys.stdout.flush()
            if not server.is_local and not quiet:
                tell(
                    f"Warning: others in the network of {host} can open the page too; what they "
                    "look at stays in their browsers, which give cameras to https alone"
                )
            if not quiet:
                tell("Ctrl-C ends")
            if opens and _has_browser():
                webbrowser.open(server.url)
            while not stopped.wait(0.5):
                pass
        server.shutdown()
        return 128 + signals[0]


def _has_browser() -> bool:
    """Tell whether a browser has a window to open; those of a terminal cannot show the page."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))
