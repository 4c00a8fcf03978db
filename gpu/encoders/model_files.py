"""What all formats of models on disk share: their description, checks of their files, and a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpu.encoders.preprocess import Preprocess

# A fingerprint reads this many blocks of this size, spread over each file. Any further training changes them all.
_SAMPLES, _SAMPLE_BYTES = 64, 4096

Signature = tuple[tuple[str, int, int], ...]
Format = Literal["sentence-transformers", "transformers", "onnx"]


class WeightsError(Exception):
    """The model's files cannot be used. The message says which and why, in one line."""


@dataclass(frozen=True, slots=True)
class OnnxImageModel:
    """An ONNX file that encodes images, as its JSON describes it.

    tokens_output: the name of the output with the vectors of all patches, or None.
    batch: the number of images that the graph takes at once, or None for any.
    """

    path: Path
    input: str
    output: str
    tokens_output: str | None
    layout: Literal["NCHW", "NHWC"]
    batch: int | None


@dataclass(frozen=True, slots=True)
class Weights:
    """A complete model on disk.

    folder: what the libraries load, or where the ONNX file is. model_id: the name of its vectors.
    embedding_dim: None for an ONNX file that does not declare it. onnx: None for models that torch loads.
    """

    folder: Path
    model_id: str
    fingerprint: str
    embedding_dim: int | None
    preprocess: Preprocess
    size_mb: float
    signature: Signature
    format: Format = "sentence-transformers"
    onnx: OnnxImageModel | None = None


def file_signature(files: Iterable[Path]) -> Signature:
    """Return path, size and time of each file, to notice a change of the model."""
    return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path in sorted(files) for stat in [path.stat()])


def megabytes(signature: Signature) -> float:
    """Return the size of all files in MB."""
    return round(sum(size for _, size, _ in signature) / 2**20, 1)


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises WeightsError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"The file {path} is missing.") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"The file {path} is damaged: it is not JSON.") from error


def make_fingerprint(configs: Sequence[Any], files: Sequence[Path]) -> str:
    """Return a hash of the configurations, and of the size and samples of each file."""
    digest = hashlib.sha256(json.dumps(configs, sort_keys=True).encode())
    for path in files:
        size = path.stat().st_size
        digest.update(str(size).encode())
        with path.open("rb") as file:
            for sample in range(_SAMPLES + 1):
                file.seek(max(0, (size - _SAMPLE_BYTES) * sample // _SAMPLES))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
