"""``FILE.py:FUNCTION``, an architecture of one's own: found and read, not yet run.

Its text goes into the run folder, so that nothing from elsewhere is needed to go on, to report and
to export; see `fer_train.network.own` for what the function is to return.
"""

import hashlib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from fer_edge.errors import DataError

_TAKEN = ("exported", "programs", "report", "teachers")
"""What lies in run folders under names of their own."""
_LARGEST = 2**20


class OwnModel(NamedTuple):
    """A model of one's own.

    Attributes:
        name: Of the model: that of its file.
        settings: ``model_file`` and ``code`` of its `Recipe`.
    """

    name: str
    settings: dict[str, Any]


def read_model_file(text: str, folder: Path = Path()) -> OwnModel:
    """Read the file of an architecture.

    Args:
        text: ``FILE.py:FUNCTION``.
        folder: What a relative path starts from.

    Raises:
        DataError: It is not of that form, or there is no such file.
    """
    place, _, function = text.rpartition(":")
    path = folder / place
    if path.suffix != ".py" or not function.isidentifier():
        raise DataError(
            "Expected FILE.py:FUNCTION, a Python file and the function in it that builds a Keras "
            f"model, such as net.py:build, received {text!r}"
        )
    try:
        code = path.read_bytes()
        if len(code) > _LARGEST:
            raise DataError(f"Expected at most {_LARGEST} bytes in {path}, received {len(code)}")
        settings = {"model_file": f"{path.name}:{function}", "code": code.decode("utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"Expected a Python file at {path}: {reason}") from error
    return OwnModel(path.stem, settings)


def check_model_name(name: str, others: Collection[str]) -> None:
    """Check that a name of a model of one's own suits folders and files.

    Args:
        name: The name.
        others: Names of models that it must not have.

    Raises:
        DataError: It does not.
    """
    taken = (*others, *_TAKEN)
    if name in taken or not re.fullmatch(r"[A-Za-z][\w-]{0,63}", name, re.ASCII):
        raise DataError(
            "Expected a name of letters, digits, - and _ for a model of one's own, other than "
            f"{', '.join(taken)}, received {name!r}; rename its file"
        )


def code_digest(code: str) -> str:
    """Return the SHA-256 of a model's code, hexadecimal."""
    return hashlib.sha256(code.encode()).hexdigest()
