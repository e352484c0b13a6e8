"""onnxruntime's execution providers under short names, and what to install for each."""

from fer_edge.errors import ProviderError

AUTO = "auto"
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "'fer-edge[cpu]'"),
    "cuda": ("CUDAExecutionProvider", "'fer-edge[gpu]'"),
    "tensorrt": ("TensorrtExecutionProvider", "'fer-edge[gpu]'"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "coreml": ("CoreMLExecutionProvider", "'fer-edge[cpu]' (macOS alone)"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml (Windows alone)"),
    "qnn": ("QNNExecutionProvider", "onnxruntime-qnn (Windows on ARM alone)"),
    "migraphx": ("MIGraphXExecutionProvider", "onnxruntime-migraphx (AMD cards)"),
}
"""Short name of each provider, onnxruntime's name, and what pip installs for it."""

CARDS = frozenset({"cuda", "tensorrt", "directml", "migraphx"})
"""Providers that run on graphics cards, with memory of their own."""

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
    from fer_edge._base._ort import BUILDS, onnxruntime

    there = onnxruntime.get_available_providers()
    if wanted == AUTO:
        return [PROVIDERS[name][0] for name in _AUTO_ORDER if PROVIDERS[name][0] in there]
    if wanted not in PROVIDERS:
        raise ValueError(f"Expected {AUTO} or {', '.join(PROVIDERS)}, received {wanted!r}")
    full, install = PROVIDERS[wanted]
    if full not in there:
        raise ProviderError(
            f"Expected the {wanted} provider, which this onnxruntime {onnxruntime.__version__} "
            f"does not have (it has {', '.join(map(short_name, there))}); run: "
            # Builds of onnxruntime overwrite each other's files: the present one has to go first.
            f"pip uninstall -y {' '.join(BUILDS) or 'onnxruntime'} && pip install {install}"
        )
    cpu = PROVIDERS["cpu"][0]
    return [full] if full == cpu else [full, cpu]
