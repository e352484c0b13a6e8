"""A graphics card's libraries: loaded where pip has put them, named where they are missing.

The texts are those of onnxruntime-gpu 1.31 (CUDA 13) and of the dynamic linkers.
"""

import ctypes
import sys
from types import SimpleNamespace

import onnxruntime
import pytest
from click.testing import CliRunner

from fer_edge import Classifier
from fer_edge.cli import main
from fer_edge.errors import ProviderError
from fer_edge.inference import libraries
from fer_edge.inference.libraries import library_fault, load_libraries
from fer_edge.inference.locate import DEFAULT_MODEL
from tests.support.models import save_brightness_model

ABSENT = "cannot open shared object file: No such file or directory"
NO_CUDA = "".join(
    f"Failed to load {name}: {name}: {ABSENT}\n"
    for name in ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13")
)
DRIVER = "libcuda.so.1 of NVIDIA's driver is missing"


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Stand in for a machine with onnxruntime-gpu; returns what is loaded and what is lacking."""

    found = SimpleNamespace(said="", preloads=0, lacking={}, loaded=[])

    def preload():
        found.preloads += 1
        sys.stdout.write(found.said)

    def load(name, *_, **__):
        for part, message in found.lacking.items():
            if part in name:
                raise OSError(message)
        found.loaded.append(name)

    capi = tmp_path / "onnxruntime" / "capi"
    capi.mkdir(parents=True)
    for provider in ("cuda", "tensorrt"):
        (capi / f"libonnxruntime_providers_{provider}.so").touch()
    monkeypatch.setattr(onnxruntime, "__file__", str(capi.parent / "__init__.py"))
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    monkeypatch.setattr(libraries, "_DRIVER", "libcuda.so.1")
    monkeypatch.setattr(ctypes, "CDLL", load)
    load_libraries.cache_clear()
    yield found
    load_libraries.cache_clear()


def offer(monkeypatch, *providers):
    names = [*providers, "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)


@pytest.mark.parametrize(("provider", "loads"), [("auto", 1), ("cuda", 1), ("cpu", 0)])
def test_they_are_loaded_once_and_only_where_they_may_be_used(
    tmp_path, monkeypatch, capfd, machine, provider, loads
):
    model = save_brightness_model(tmp_path / "tiny.onnx")
    offer(monkeypatch, "CUDAExecutionProvider")
    machine.said = NO_CUDA
    for _ in range(2):
        if provider == "cuda":
            with pytest.raises(ProviderError, match="cuda provider to run, but it failed: "):
                Classifier(model, provider=provider)
        else:
            assert Classifier(model, provider=provider).provider == "cpu"
    assert machine.preloads == loads
    assert capfd.readouterr() == ("", "")


def test_a_processors_build_loads_nothing_of_cuda(tmp_path, monkeypatch, machine):
    offer(monkeypatch)
    Classifier(save_brightness_model(tmp_path / "tiny.onnx"), provider="auto")
    assert machine.preloads == 0


def test_an_onnxruntime_that_cannot_preload_is_no_fault(monkeypatch):
    monkeypatch.delattr(onnxruntime, "preload_dlls")
    assert load_libraries("cuda") == ()


def test_with_all_of_pips_libraries_the_driver_alone_is_missing(machine):
    machine.lacking = {
        "libcuda.so.1": f"libcuda.so.1: {ABSENT}",
        "_cuda": f"libcuda.so.1: {ABSENT}",
    }
    assert library_fault("cuda").startswith(f"{DRIVER}; install the driver")
    assert library_fault("cuda").count("missing") == 1


def test_missing_libraries_are_named_with_cudas_version_and_what_brings_them(machine):
    machine.said = NO_CUDA
    machine.lacking = {"_cuda": f"libcublasLt.so.13: {ABSENT}"}
    assert library_fault("cuda") == (
        "libcublasLt.so.13, libcublas.so.13, libcurand.so.10, libcudart.so.13 of CUDA 13 are "
        "missing; run: pip install 'fer-edge[gpu]'"
    )
    machine.lacking["libcuda.so.1"] = f"libcuda.so.1: {ABSENT}"
    assert DRIVER in library_fault("cuda") and "libcudart.so.13" in library_fault("cuda")


def test_a_library_that_needs_another_names_the_other(machine):
    path = "/site-packages/nvidia/cudnn/lib/libcudnn.so.9"
    machine.said = f"Failed to load {path}: libnvrtc.so.13: {ABSENT}\n"
    assert library_fault("cuda").startswith("libnvrtc.so.13 of CUDA 13 is missing")


def test_windows_names_them_too(machine):
    name = "cublasLt64_13.dll"
    machine.said = (
        f"Failed to load {name}: Could not find module '{name}' (or one of its dependencies). "
        "Try using the full path with constructor syntax.\n"
        "Failed to load C:\\nvidia\\cudnn64_9.dll: Could not find module "
        "'C:\\nvidia\\cudnn64_9.dll' (or one of its dependencies).\n"
    )
    fault = library_fault("cuda")
    assert "cublasLt64_13.dll of CUDA 13 is missing" in fault
    assert "cudnn64_9.dll of cuDNN 9 for CUDA 13 is missing" in fault


def test_a_library_of_the_wrong_version_is_told_as_it_is(machine):
    text = "/lib/libcublas.so.13: version `libcublasLt.so.13' not found"
    machine.lacking = {"_cuda": text}
    assert library_fault("cuda") == text


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (
            "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=0",
            "NVIDIA's driver is too old for CUDA 13; update it",
        ),
        ("CUDA failure 100: no CUDA-capable device is detected ; GPU=-1", "sees no card"),
        ("out of memory", "out of memory"),
        ("", "does not say why"),
    ],
)
def test_what_cuda_says_is_passed_on_with_the_cure(reason, told):
    fault = library_fault("cuda", reason)
    assert told in fault and reason in fault


def test_tensorrts_own_libraries_are_loaded_core_first(machine, monkeypatch, tmp_path):
    package = tmp_path / "tensorrt_libs"
    package.mkdir()
    for name in ("nvonnxparser", "nvinfer_plugin", "nvinfer", "nvinfer_builder_resource"):
        (package / f"lib{name}.so.10").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert load_libraries("tensorrt") == ()
    assert machine.preloads == 1
    assert machine.loaded == [
        str(package / f"lib{name}.so.10") for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser")
    ]


def test_a_missing_tensorrt_is_named_with_its_version(machine):
    machine.lacking = {"_tensorrt": f"libnvinfer.so.10: {ABSENT}"}
    reason = "Please install TensorRT libraries as mentioned in the GPU requirements page"
    assert library_fault("tensorrt", reason) == (
        "libnvinfer.so.10 of TensorRT 10 is missing; run: pip install 'tensorrt-cu13==10.*'"
    )


def test_doctor_reports_a_card_that_cannot_be_used(tmp_path, monkeypatch, machine):
    monkeypatch.chdir(tmp_path)
    save_brightness_model(tmp_path / DEFAULT_MODEL)
    offer(monkeypatch, "TensorrtExecutionProvider", "CUDAExecutionProvider")
    machine.lacking = {"libcuda.so.1": f"libcuda.so.1: {ABSENT}"}
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert result.stderr.count("problem: ") == 1
    assert f"problem: Expected the cuda provider to run, but it failed: {DRIVER}" in result.stderr
    assert "cuda fails, tensorrt not installed" in result.stdout


def test_the_present_build_goes_before_another_is_installed(tmp_path):
    model = save_brightness_model(tmp_path / "tiny.onnx")
    with pytest.raises(ProviderError) as caught:
        Classifier(model, provider="openvino")
    assert "run: pip uninstall -y onnxruntime && pip install onnxruntime-openvino" in str(
        caught.value
    )
