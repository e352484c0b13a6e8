"""onnxruntime's execution providers under short names, and what to install for each."""

from fer_edge.errors import ProviderError

AUTO = "auto"
# Builds of onnxruntime overwrite each other's files: the present one has to go first.
_SWAP = "pip uninstall -y onnxruntime && pip install"
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "pip install 'fer-edge[cpu]'"),
    "cuda": ("CUDAExecutionProvider", f"{_SWAP} 'fer-edge[gpu]'"),
    "tensorrt": ("TensorrtExecutionProvider", f"{_SWAP} 'fer-edge[gpu]' tensorrt"),
    "openvino": ("OpenVINOExecutionProvider", f"{_SWAP} onnxruntime-openvino"),
    "coreml": ("CoreMLExecutionProvider", "pip install 'fer-edge[cpu]' (macOS alone)"),
    "directml": ("DmlExecutionProvider", f"{_SWAP} onnxruntime-directml (Windows alone)"),
    "qnn": ("QNNExecutionProvider", f"{_SWAP} onnxruntime-qnn (Windows on ARM alone)"),
    "migraphx": ("MIGraphXExecutionProvider", f"{_SWAP} onnxruntime-migraphx (AMD cards)"),
}
"""Short name of each provider, onnxruntime's name, and the line that installs it."""

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
    from fer_edge._base._ort import onnxruntime

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
        raise ProviderError(provider_failed(wanted, f"onnxruntime fell back to {runs}"))
    return runs


def provider_failed(wanted: str, reason: str) -> str:
    """Return the message for a provider that is there but cannot be used."""
    return (
        f"Expected the {wanted} provider to run, but it failed to load ({reason}); install its "
        f"libraries: {PROVIDERS[wanted][1]}, and see fer-edge doctor"
    )
