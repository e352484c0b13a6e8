"""Pictures behind http(s) addresses, within limits of size and time."""

import re
import time
from typing import Any

from fer_edge import __version__
from fer_edge.errors import ImageError

TIMEOUT_S = 10.0
"""The longest silence of a server."""
_WHOLE_S = 60.0
"""The longest time that one picture may take."""
_PART_BYTES = 2**16


def is_address(source: object) -> bool:
    """Tell whether a source is an http(s) address, and not a path."""
    return isinstance(source, str) and re.match(r"https?://", source, re.IGNORECASE) is not None


def without_password(address: str) -> str:
    """Return an address as it may be shown and kept: without user and password."""
    return re.sub(r"(?<=://)[^/?#]*@", "", address)


def fetch(address: str, max_bytes: int) -> bytes:
    """Fetch what an address gives, or one byte more than the limit of what is larger.

    User and password of an address are sent when the server asks for them. Proxies are taken from
    the environment, as usual (``HTTPS_PROXY``). Addresses lead to http(s) alone, also where a
    server sends on to another one.

    Raises:
        ImageError: The server cannot be reached, refuses, is silent or too slow.
    """
    # Here, since they would add a tenth to the start of every program.
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *request: Any) -> Any:
            if not is_address(newurl := request[-1]):
                raise urllib.error.URLError(f"it leads to {newurl.split(':')[0]}, not to http(s)")
            return super().redirect_request(*request)

    deadline_s = time.monotonic() + _WHOLE_S
    parts, size = [], 0
    try:
        split = urllib.parse.urlsplit(address)
        plain = without_password(address)
        users = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if split.username:
            user, password = split.username, split.password or ""
            users.add_password(None, plain, *map(urllib.parse.unquote, (user, password)))
        opener = urllib.request.build_opener(
            Redirects,
            urllib.request.HTTPBasicAuthHandler(users),
            urllib.request.HTTPDigestAuthHandler(users),
        )
        opener.addheaders = [("User-Agent", f"fer-edge/{__version__}"), ("Accept", "image/*")]
        with opener.open(plain, timeout=TIMEOUT_S) as response:
            while size <= max_bytes:
                # Not read(): it waits for whole parts, however slowly they drip.
                part = response.read1(min(_PART_BYTES, max_bytes + 1 - size))
                if not part:
                    break
                parts.append(part)
                size += len(part)
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"not done after {_WHOLE_S:g} s")
            _check_whole(response, size, max_bytes)
    except urllib.error.HTTPError as error:
        raise ImageError(
            f"Expected a picture, the server answers {error.code} {error.reason}".strip()
        ) from error
    except TimeoutError as error:
        raise ImageError(f"Expected a picture, the server is too slow: {error}") from error
    # The address itself is wrong (ValueError, InvalidURL), or the connection is.
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        raise ImageError(f"Expected a picture, the address cannot be read: {reason}") from error
    return b"".join(parts)


def _check_whole(response: Any, size: int, max_bytes: int) -> None:
    promised = response.headers.get("Content-Length", "")
    if promised.isdecimal() and size < min(int(promised), max_bytes + 1):
        raise ConnectionError(f"it ended after {size} of {promised} bytes")
