"""An onnxruntime session for one model file, checked before anything relies on it.

Its options are those that `benchmarks/session_options.py` found to pay:

- All graph optimisation: without the fusions of the extended level int8 runs many times slower,
  since each product is then done in float32 between conversions.
- No optimised graph kept on disk: it would open some milliseconds sooner, but holds for one
  processor and one onnxruntime alone, and would have to follow every change of the model.
- The memory arena, which costs some MiB and spares each batch its allocations.
- Threads that wait busily, but not for video: at 30 frames a second they would take several times
  the processor time of the inferences themselves.
"""

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge._base._ort import ORT_ERRORS, onnxruntime, ort_reason
from fer_edge.contract import OUTPUT_NAME
from fer_edge.errors import ModelError, ProviderError
from fer_edge.inference.describe import Shape
from fer_edge.inference.libraries import library_fault, load_libraries
from fer_edge.inference.onnx_file import read_model
from fer_edge.inference.providers import AUTO, choose_providers, short_name

_LOG_FATAL = 4
_MOST_FIXED = 4096


@dataclass(frozen=True)
class Session:
    """A loaded model with one float32 input and one float32 output.

    Attributes:
        path: Its file.
        provider: Short name of the execution provider that really runs.
        notes: What a user should be told, such as a provider that could not be used.
        metadata: The file's custom metadata.
        input_shape: Batch dimension first; free dimensions are names or None.
        output_shape: Likewise.
    """

    path: Path
    provider: str
    notes: tuple[str, ...]
    metadata: Mapping[str, str]
    input_shape: Shape
    output_shape: Shape
    _session: Any
    _input: str
    _output: str

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the model takes, or None where it takes any."""
        size = self.input_shape[0] if self.input_shape else None
        return size if isinstance(size, int) and size > 0 else None

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model on one batch as it is.

        Raises:
            ModelError: The model fails.
        """
        try:
            (answer,) = self._session.run([self._output], {self._input: batch})
        except ORT_ERRORS as error:
            raise ModelError(f"{self.path.name} fails when it runs: {ort_reason(error)}") from error
        return np.asarray(answer)


_loaded: weakref.WeakSet[Any] = weakref.WeakSet()
"""The sessions of this process."""


def _keep_for_ever() -> None:
    """Keep a forked process from ending its parent's sessions: it waits for threads it has not."""
    import ctypes

    for session in _loaded:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_for_ever)


def open_session(path: Path, provider: str, threads: int, *, spin: bool = True) -> Session:
    """Load a model file.

    Args:
        path: The file.
        provider: ``auto`` or a key of `fer_edge.inference.providers.PROVIDERS`.
        threads: Threads that one inference may use.
        spin: Whether idle threads wait busily for the next inference, which answers sooner but
            takes the processor from everything else.

    Raises:
        ModelError: The file is broken, hostile, or no model with one input and one output.
        ProviderError: The provider was asked for and cannot be used.
    """
    content = read_model(path)
    names = choose_providers(provider)
    best = short_name(names[0])
    load_libraries(best)
    reason = ""
    try:
        session = _load(content, path.name, names, threads, spin)
    except ModelError as error:
        if len(names) == 1:
            raise
        # Whether the model or the provider is at fault shows on the processor.
        session = _load(content, path.name, names[-1:], threads, spin)
        reason = ort_reason(error.__cause__ or error)
    runs = short_name(session.get_providers()[0])
    notes = []
    if runs != best:
        fault = library_fault(best, reason)
        if provider != AUTO:
            raise ProviderError(f"Expected the {best} provider to run, but it failed: {fault}")
        notes.append(
            f"The {best} provider is installed but failed to load: {fault}; running on {runs}"
        )
    try:
        source = _only_float(session.get_inputs(), f"one float32 input of {path.name}")
        answers = session.get_outputs()
        named = [node for node in answers if node.name == OUTPUT_NAME]
        answer = _only_float(
            named or answers, f"one float32 output of {path.name}, or one named {OUTPUT_NAME}"
        )
        loaded = Session(
            path=path,
            provider=runs,
            notes=tuple(notes),
            metadata=session.get_modelmeta().custom_metadata_map,
            input_shape=source.shape,
            output_shape=answer.shape,
            _session=session,
            _input=source.name,
            _output=answer.name,
        )
    except UnicodeDecodeError as error:
        raise ModelError(
            f"Expected text in the names and metadata of {path.name}, received bytes that are "
            "none; the file is damaged"
        ) from error
    if (loaded.fixed_batch or 0) > _MOST_FIXED:
        raise ModelError(
            f"Expected {path.name} to take batches of at most {_MOST_FIXED}, received an input "
            f"of {loaded.input_shape}"
        )
    return loaded


def _load(content: bytes, name: str, providers: Sequence[str], threads: int, spin: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    # Else a file could pass as onnxruntime's own format, which is not checked before it runs.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        # Without enable_fallback=0 a provider that fails is replaced by the processor.
        session = onnxruntime.InferenceSession(
            content, options, providers=list(providers), enable_fallback=0
        )
        _loaded.add(session)
        return session
    except ORT_ERRORS as error:
        raise ModelError(
            f"Expected an ONNX model, received {name}, which onnxruntime "
            f"{onnxruntime.__version__} cannot load: {ort_reason(error)}"
        ) from error


def _only_float(nodes: Sequence[Any], expected: str) -> Any:
    if len(nodes) != 1 or nodes[0].type != "tensor(float)":
        found = ", ".join(f"{node.name} {node.type}" for node in nodes) or "none"
        raise ModelError(f"Expected {expected}, received {found}")
    return nodes[0]
