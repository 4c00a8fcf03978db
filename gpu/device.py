"""Choose the device (cuda, rocm, mps or cpu), and say why."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Literal, TypedDict

from django.conf import settings

Device = Literal["cuda", "rocm", "mps", "cpu"]


class DeviceInfo(TypedDict):
    device: Device
    gpu_name: str | None
    vram_gb: float | None
    torch_version: str | None
    reason: str


def _reason_for_cpu() -> str | None:
    if settings.CLIP_CONFIG["force_cpu"]:
        return "CLIP_FORCE_CPU is set."
    if settings.CLIP_CONFIG["backend"] in {"onnx", "onnx-int8"}:
        return "CLIP_BACKEND selects ONNX Runtime, which runs on the CPU."
    return None


def get_device_info() -> DeviceInfo:
    """Return the device of the model, its name, its memory and why it was chosen.

    Memory is in GB (2**30 bytes). Imports torch.
    """
    import torch

    def info(device: Device, reason: str, name: str | None = None, memory: float | None = None) -> DeviceInfo:
        vram = None if memory is None else round(memory / 2**30, 1)
        version = str(torch.__version__)
        return {"device": device, "gpu_name": name, "vram_gb": vram, "torch_version": version, "reason": reason}

    if (cpu_reason := _reason_for_cpu()) is not None:
        return info("cpu", cpu_reason)
    missing = []
    for candidate in settings.CLIP_CONFIG["device_priority"]:
        if candidate in {"cuda", "rocm"}:
            if torch.cuda.is_available():
                properties = torch.cuda.get_device_properties(0)
                # AMD's GPUs appear as CUDA devices; the build of torch tells them apart.
                amd = torch.version.hip is not None or "AMD" in properties.name
                reason = f"torch {torch.__version__} sees {properties.name}."
                return info("rocm" if amd else "cuda", reason, properties.name, properties.total_memory)
            missing.append(_reason_for_no_cuda(torch.version.cuda is not None or torch.version.hip is not None))
        elif candidate == "mps":
            if torch.backends.mps.is_available():
                return info("mps", "torch sees Apple's GPU.", "Apple GPU", torch.mps.recommended_max_memory())
        elif candidate == "cpu":
            break
    return info("cpu", " ".join(missing) or "The device priority names no GPU.")


def likely_device() -> tuple[Device, str]:
    """Return the device that a worker will probably use, and why.

    Does not import torch.
    """
    if (cpu_reason := _reason_for_cpu()) is not None:
        return "cpu", cpu_reason
    hardware = _hardware()
    for candidate in settings.CLIP_CONFIG["device_priority"]:
        if candidate == "mps" and hardware == "mps":
            return "mps", "This is Apple silicon."
        if candidate in {"cuda", "rocm"} and hardware in {"cuda", "rocm"}:
            return hardware, "A GPU driver is installed; a worker will find out whether torch can use it."
        if candidate == "cpu":
            break
    return "cpu", _NO_HARDWARE if hardware is None else "The device priority names no GPU that this machine has."


def describe_device() -> DeviceInfo:
    """Return the device, exactly if torch is loaded here, otherwise the likely one."""
    if "torch" in sys.modules:
        return get_device_info()
    device, reason = likely_device()
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        version = None
    return {"device": device, "gpu_name": None, "vram_gb": None, "torch_version": version, "reason": reason}


def memory_gb() -> tuple[float | None, float | None]:
    """Return allocated and reserved GPU memory of this process, or None without a GPU.

    Both are in GB (2**30 bytes).
    """
    if "torch" not in sys.modules:
        return None, None
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        used, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    elif torch.backends.mps.is_available():
        used, reserved = torch.mps.current_allocated_memory(), torch.mps.driver_allocated_memory()
    else:
        return None, None
    return round(used / 2**30, 2), round(reserved / 2**30, 2)


def process_memory_gb() -> float | None:
    """Return the main memory of this process in GB (2**30 bytes).

    None if the system does not tell.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**30, 2)


def empty_cache() -> None:
    """Release the GPU memory that torch caches for speed."""
    if "torch" not in sys.modules:
        return
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


_NO_HARDWARE = "No NVIDIA, AMD or Apple GPU was found."


def _hardware() -> Literal["cuda", "rocm", "mps"] | None:
    """Return the kind of GPU that the operating system shows, or None.

    Respects CUDA_VISIBLE_DEVICES.
    """
    if platform.system() == "Darwin":
        return "mps" if platform.machine() == "arm64" else None
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in {"", "-1"}:
        return None
    if list(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists():
        return "cuda"
    return "rocm" if Path("/dev/kfd").exists() else None


def _reason_for_no_cuda(built_for_gpu: bool) -> str:
    if _hardware() not in {"cuda", "rocm"}:
        return _NO_HARDWARE
    if built_for_gpu:
        return "There is a GPU, but torch cannot use it: its driver is missing or too old for this torch."
    return "There is a GPU, but this torch was built for the CPU only: install a CUDA or ROCm build (see docs/gpu.md)."
