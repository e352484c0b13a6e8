"""onnxruntime's execution providers under short names, and what to install for each."""

from fer_edge.errors import ProviderError

AUTO = "auto"
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "pip install 'fer-edge[cpu]'"),
    "cuda": ("CUDAExecutionProvider", "pip install 'fer-edge[gpu]'"),
    "tensorrt": ("TensorrtExecutionProvider", "pip install 'fer-edge[gpu]' tensorrt"),
    "openvino": ("OpenVINOExecutionProvider", "pip install onnxruntime-openvino"),
    "coreml": ("CoreMLExecutionProvider", "pip install 'fer-edge[cpu]' on macOS"),
    "directml": ("DmlExecutionProvider", "pip install onnxruntime-directml on Windows"),
    "qnn": ("QNNExecutionProvider", "pip install onnxruntime-qnn on Windows for ARM"),
    "xnnpack": ("XnnpackExecutionProvider", "a build of onnxruntime with XNNPACK"),
    "migraphx": ("MIGraphXExecutionProvider", "pip install onnxruntime-migraphx"),
}
# Those that are faster than the processor without any preparation.
_AUTO_ORDER = ("cuda", "directml", "cpu")


def short_name(provider: str) -> str:
    """Return the short name of one of onnxruntime's providers; unknown ones pass through."""
    return next((name for name, (full, _) in PROVIDERS.items() if full == provider), provider)


def choose_providers(wanted: str) -> list[str]:
    """Return onnxruntime's names of the providers to ask for, best first.

    Args:
        wanted: A key of `PROVIDERS`, or ``auto``.

    Raises:
        ProviderError: The installed onnxruntime does not have it.
        ValueError: There is no such provider.
    """
    from fer_edge._ort import onnxruntime

    there = onnxruntime.get_available_providers()
    if wanted == AUTO:
        return [PROVIDERS[name][0] for name in _AUTO_ORDER if PROVIDERS[name][0] in there]
    if wanted not in PROVIDERS:
        raise ValueError(f"Expected {AUTO} or {', '.join(PROVIDERS)}, received {wanted!r}")
    full, install = PROVIDERS[wanted]
    if full not in there:
        raise ProviderError(
            f"Expected the {wanted} provider, which this onnxruntime {onnxruntime.__version__} "
            f"does not have (it has {', '.join(map(short_name, there))}); run: {install}"
        )
    cpu = PROVIDERS["cpu"][0]
    return [full] if full == cpu else [full, cpu]


def check_provider(wanted: str, active: list[str]) -> str:
    """Return the short name of what a session really runs on.

    onnxruntime goes on with the processor when a provider fails to load; here that is an error
    for a provider that was asked for.

    Raises:
        ProviderError: The provider was asked for and did not load.
    """
    runs = short_name(active[0])
    if wanted not in (AUTO, runs):
        raise ProviderError(
            f"Expected the {wanted} provider to run, but it failed to load its libraries and "
            f"onnxruntime fell back to {runs}; run: {PROVIDERS[wanted][1]}, or see "
            "fer-edge doctor"
        )
    return runs
