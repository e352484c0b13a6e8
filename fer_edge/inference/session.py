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

import functools
import logging
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge._base._ort import ORT_ERRORS, onnxruntime, ort_reason
from fer_edge.errors import ModelError, ProviderError
from fer_edge.inference.libraries import library_fault, load_libraries
from fer_edge.inference.onnx_file import ModelFile, Shape, Tensor, read_model
from fer_edge.inference.providers import AUTO, CARDS, choose_providers, short_name

_LOG = logging.getLogger(__name__)
_LOG_FATAL = 4
_MOST_FIXED = 4096
_INPUT_TYPES: dict[str, Any] = {
    "float": np.float32,
    "float16": np.float16,
    "double": np.float64,
    "uint8": np.uint8,
}


@dataclass(frozen=True)
class Session:
    """A loaded model with one input of numbers.

    Attributes:
        file: What its file says of itself.
        provider: Short name of the execution provider that really runs.
        bound: Whether inputs and outputs are bound for each call: onnxruntime then copies each once
            between a card's memory and ours, and waits for the card once.
    """

    file: ModelFile
    provider: str
    _session: Any
    bound: bool = False

    @property
    def input(self) -> Tensor:
        """The input."""
        return self.file.inputs[0]

    @property
    def input_shape(self) -> Shape:
        """Shape of the input; empty where the file does not say it."""
        return self.input.shape or ()

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the model takes, or None where it takes any."""
        size = self.input_shape[0] if self.input_shape else None
        return size if isinstance(size, int) else None

    def run(
        self, batch: NDArray[np.float32], outputs: Sequence[str] = ()
    ) -> list[NDArray[np.float32]]:
        """Run the model on one batch as it is.

        Args:
            batch: float32; turned into the input's own type.
            outputs: Names of those that are returned; none mean the first.

        Raises:
            ModelError: The model fails.
        """
        dtype = _INPUT_TYPES[self.input.type]
        if dtype == np.uint8:
            batch = np.clip(np.rint(batch), 0, 255)
        names = list(outputs) or [self.file.outputs[0].name]
        try:
            found = self._run(names, batch.astype(dtype, copy=False))
            return [np.asarray(output, np.float32) for output in found]
        except ORT_ERRORS as error:
            raise ModelError(
                f"{self.file.path.name} fails when it runs: {ort_reason(error)}"
            ) from error

    def _run(self, names: Sequence[str], batch: NDArray[Any]) -> list[Any]:
        if not self.bound:
            return list(self._session.run(names, {self.input.name: batch}))
        # One for each call, as threads share the session.
        binding = self._session.io_binding()
        binding.bind_cpu_input(self.input.name, np.ascontiguousarray(batch))
        for name in names:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())


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

    A provider that could not be used under ``auto`` is told of as a warning in the log.

    Args:
        path: The file.
        provider: ``auto`` or a key of `fer_edge.inference.providers.PROVIDERS`.
        threads: Threads that one inference may use.
        spin: Whether idle threads wait busily for the next inference, which then ends sooner but
            takes the processor from everything else.

    Raises:
        ModelError: The file is broken, hostile, or no model with one input of numbers.
        ProviderError: The provider was asked for and cannot be used.
    """
    content, file = read_model(path)
    # Other files are found from the model's own place, by onnxruntime itself.
    source = os.fspath(path) if file.data_files else content
    names = choose_providers(provider)
    best = short_name(names[0])
    load_libraries(best)
    reason = ""
    try:
        session = _load(source, path.name, names, threads, spin)
    except ModelError as error:
        if len(names) == 1:
            raise
        # Whether the model or the provider is at fault shows on the processor.
        session = _load(source, path.name, names[-1:], threads, spin)
        reason = ort_reason(error.__cause__ or error)
    runs = short_name(session.get_providers()[0])
    if runs != best:
        fault = library_fault(best, reason)
        if provider != AUTO:
            raise ProviderError(f"Expected the {best} provider to run, but it failed: {fault}")
        _warn_of_fallback(best, runs, fault)
    loaded = Session(file, runs, session, bound=runs in CARDS)
    _check_tensors(loaded)
    return loaded


@functools.cache
def _warn_of_fallback(best: str, runs: str, fault: str) -> None:
    """Warn once in a process, which opens a session for faces and another for emotions."""
    _LOG.warning(
        "The %s provider is installed but failed to load: %s; running on %s", best, fault, runs
    )


def _check_tensors(session: Session) -> None:
    file, name = session.file, session.file.path.name
    if len(file.inputs) != 1 or file.inputs[0].type not in _INPUT_TYPES:
        raise ModelError(
            f"Expected one input of {name}, of {' or '.join(_INPUT_TYPES)}, received "
            f"{'; '.join(map(str, file.inputs)) or 'none'}"
        )
    if not any(output.is_float for output in file.outputs):
        raise ModelError(
            f"Expected an output of {name} of floating-point numbers, received "
            f"{'; '.join(map(str, file.outputs)) or 'none'}"
        )
    if (session.fixed_batch or 0) > _MOST_FIXED:
        raise ModelError(
            f"Expected {name} to take batches of at most {_MOST_FIXED}, received the input "
            f"{session.input}"
        )


def _load(
    source: bytes | str, name: str, providers: Sequence[str], threads: int, spin: bool
) -> Any:
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
            source, options, providers=list(providers), enable_fallback=0
        )
        _loaded.add(session)
        return session
    except ORT_ERRORS as error:
        raise ModelError(
            f"Expected an ONNX model, received {name}, which onnxruntime "
            f"{onnxruntime.__version__} cannot load: {ort_reason(error)}"
        ) from error
