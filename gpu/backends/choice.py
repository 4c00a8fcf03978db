"""The backend that was measured to be the best for a model on this machine, kept in a file.

Nothing here loads a model or imports torch, because the web process also uses it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from core import files
from gpu.device import likely_device
from gpu.encoders.weights import Weights, cache_dir

BACKENDS = ("torch", "torch-bfloat16", "torch-float16", "onnx", "onnx-int8")

# Versions of these change how fast a backend is, and what it computes.
_PACKAGES = ("torch", "transformers", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Result:
    """What a backend did. The figures are None if they were not measured.

    ratio: its speed as a multiple of the reference in the same seconds. problem: why it is not used, or empty.
    """

    backend: str
    images_per_second: float | None = None
    ratio: float | None = None
    min_cosine: float | None = None
    mean_cosine: float | None = None
    top10: float | None = None
    problem: str = ""

    @property
    def top10_percent(self) -> float | None:
        return None if self.top10 is None else round(100 * self.top10, 1)


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend in use for a model on this machine, and what was measured.

    reference: what the others were compared with. rendered: how many of the images were drawn, because the catalogue
    had too few.
    """

    model: str
    backend: str
    reference: str
    images: int
    rendered: int
    measured_at: str
    seconds: float
    machine: dict[str, str]
    results: tuple[Result, ...]

    @property
    def result(self) -> Result:
        """Return what the chosen backend did."""
        return next(result for result in self.results if result.backend == self.backend)

    @property
    def key(self) -> tuple[str, ...]:
        """Return what tells this choice from an earlier or later one."""
        return self.model, self.backend, self.measured_at

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def find(model_weights: Weights) -> Choice | None:
    """Return what was measured with these weights on this machine and these versions, or None.

    Costs a stat() call.
    """
    path = _path(model_weights)
    try:
        stat = path.stat()
    except OSError:
        return None
    return _read(path, stat.st_mtime_ns, stat.st_size)


def save(model_weights: Weights, choice: Choice) -> None:
    """Keep the choice for this machine. Raises OSError."""
    files.write_file(_path(model_weights), (json.dumps(choice.as_json(), indent=2) + "\n").encode())


def machine() -> dict[str, str]:
    """Return what decides which backend is fastest here: processor, GPU, device and versions."""
    return {"device": likely_device()[0], **_hardware(), **_versions()}


def lock_file() -> Path:
    """Return the file that is locked while a process measures. Its folder may not exist."""
    return cache_dir() / "backends" / "measuring.lock"


def _path(model_weights: Weights) -> Path:
    key = json.dumps([machine(), model_weights.fingerprint], sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return cache_dir() / "backends" / re.sub(r"[^\w.@-]+", "--", model_weights.model_id) / f"{name}.json"


@functools.lru_cache(maxsize=32)
def _read(path: Path, _time: int, _size: int) -> Choice | None:
    """Read a file of ``save``. Return None for a damaged one, so that it is measured again."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results = tuple(Result(**_known(Result, result)) for result in content.pop("results"))
        choice = Choice(**_known(Choice, content), results=results)
        return choice if choice.backend in BACKENDS and choice.result else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None


def _known(kind: type[Result] | type[Choice], values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


@functools.lru_cache(maxsize=1)
def _hardware() -> dict[str, str]:
    found = {"machine": platform.machine(), "cpu": platform.processor(), "cpu_flags": ""}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = (part.strip() for part in line.partition(":"))
            if name == "model name":
                found["cpu"] = value
            elif name in {"flags", "Features"}:
                found["cpu_flags"] = hashlib.sha256(" ".join(sorted(value.split())).encode()).hexdigest()[:16]
    except OSError:
        pass  # not Linux: the name of the processor must do
    models = set()
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        models |= set(re.findall(r"Model:\s*(.+)", path.read_text(encoding="ascii", errors="replace")))
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return found | {"gpu": ", ".join(sorted(models)), "visible_gpus": gpus}


@functools.lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
