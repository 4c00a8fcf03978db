"""Find a CLIP model's files, check that they are complete, and name the vectors of the model.

Nothing here loads a model or imports torch, because the web process also uses it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from gpu.encoders.preprocess import Preprocess

HUB_OWNER = "sentence-transformers"

# Dimensions of the hub's models, known before their weights are downloaded.
_HUB_DIMENSIONS = {"clip-ViT-B-32": 512, "clip-ViT-B-16": 512, "clip-ViT-L-14": 768}

# A fingerprint reads this many blocks of this size, spread over the weights. Any further training changes them all.
_SAMPLES, _SAMPLE_BYTES = 64, 4096

Signature = tuple[tuple[str, int, int], ...]


class WeightsError(Exception):
    """The model's files cannot be used. The message says which and why, in one line."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A complete model on disk.

    SentenceTransformer loads ``folder``. ``model_id`` names its vectors.
    """

    folder: Path
    model_id: str
    fingerprint: str
    embedding_dim: int
    preprocess: Preprocess
    size_mb: float
    signature: Signature


def is_local(name: str) -> bool:
    """Return whether ``name`` is a local folder and not a name on the hub."""
    return name.startswith((".", "~")) or Path(name).is_absolute() or (os.sep in name and Path(name).is_dir())


def hub_repository(name: str) -> str:
    """Return the full name on the hub. Short names belong to sentence-transformers."""
    return name if "/" in name else f"{HUB_OWNER}/{name}"


def cache_dir() -> Path:
    """Return the folder of downloaded weights and exported models."""
    return Path(settings.CLIP_CONFIG["cache_dir"]).expanduser()


def find_weights(name: str | None = None) -> Weights:
    """Return the configured (or named) model on disk after checking every file.

    Raises WeightsError. Further calls cost a few stat() calls while no file changes.
    """
    name = name or settings.CLIP_CONFIG["model_name"]
    folder = _folder(name)
    try:
        return _inspect(name, folder, _signature(folder))
    except OSError as error:
        raise WeightsError(f"The model in {folder} cannot be read: {error.strerror or error}.") from error


def model_id(name: str | None = None) -> str:
    """Return the name that is stored with features.

    It is the hub's name, or ``folder@fingerprint`` for a local folder. A local folder with missing or broken files has
    its bare name, under which no feature is ever stored.
    """
    name = name or settings.CLIP_CONFIG["model_name"]
    if not is_local(name):
        return name.removeprefix(f"{HUB_OWNER}/")
    try:
        return find_weights(name).model_id
    except WeightsError:
        return Path(name).expanduser().name


def known_dim(name: str) -> int | None:
    """Return the embedding length of a well-known hub model, else None.

    Needs no files of the model.
    """
    return _HUB_DIMENSIONS.get(name.removeprefix(f"{HUB_OWNER}/"))


def hub_cache(name: str) -> Path:
    """Return the folder of a hub model.

    It has the hub's own cache layout, so that downloads can resume.
    """
    return cache_dir() / f"models--{hub_repository(name).replace('/', '--')}"


def _folder(name: str) -> Path:
    if is_local(name):
        folder = Path(name).expanduser().resolve()
        if not folder.is_dir():
            raise WeightsError(f"CLIP_MODEL names the folder {folder}, which does not exist.")
        return folder
    cached = hub_cache(name)
    try:
        commit = (cached / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"The weights of {name} are not in {_shorten_home(cache_dir())}; 'manage.py download_model' fetches them."
        ) from error
    return cached / "snapshots" / commit


def _shorten_home(folder: Path) -> str:
    """Replace the home folder by ~.

    Pages and API responses must not name the user's account.
    """
    home = Path("~").expanduser()
    return f"~/{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def _signature(folder: Path) -> Signature:
    """Return path, size and time of each file, to notice a change of the model."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((str(path), stat.st_size, stat.st_mtime_ns) for path in files for stat in [path.stat()])


@functools.lru_cache(maxsize=8)
def _inspect(name: str, folder: Path, signature: Signature) -> Weights:
    modules = _json(folder / "modules.json")
    if not isinstance(modules, list) or not modules or not all(isinstance(module, dict) for module in modules):
        raise WeightsError(f"{folder / 'modules.json'} does not list the model's modules.")
    others = [str(module.get("type")) for module in modules[1:] if not str(module.get("type")).endswith("Normalize")]
    if others:
        raise WeightsError(f"The model in {folder} has more than a CLIP encoder: {', '.join(others)}.")
    module = folder / str(modules[0].get("path", ""))
    config = _json(module / "config.json")
    if not isinstance(config, dict) or config.get("model_type") != "clip" or "vision_config" not in config:
        raise WeightsError(f"{module / 'config.json'} does not describe a CLIP model.")
    preprocessor = _preprocessor(module)
    if not (module / "tokenizer.json").is_file():
        for part in ("vocab.json", "merges.txt"):
            if not (module / part).is_file():
                raise WeightsError(f"The file {module / part} is missing.")
    weights_file = _checked_weights(module)
    try:
        preprocess = Preprocess.from_config(preprocessor)
    except ValueError as error:
        raise WeightsError(f"The model in {folder} cannot be used: {error}.") from error
    fingerprint = _fingerprint([config, preprocessor], weights_file)
    short_name = name.removeprefix(f"{HUB_OWNER}/")
    return Weights(
        folder=folder,
        model_id=f"{folder.name}@{fingerprint[:8]}" if is_local(name) else short_name,
        fingerprint=fingerprint,
        embedding_dim=int(config.get("projection_dim", 512)),
        preprocess=preprocess,
        size_mb=round(sum(size for _, size, _ in signature) / 2**20, 1),
        signature=signature,
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"The file {path} is missing.") from error
    except ValueError as error:
        raise WeightsError(f"The file {path} is damaged: it is not JSON.") from error


def _preprocessor(module: Path) -> dict[str, Any]:
    """Return the image processor's configuration.

    Newer libraries write it into ``processor_config.json``.
    """
    if not (module / "preprocessor_config.json").is_file() and (module / "processor_config.json").is_file():
        config = _json(module / "processor_config.json")
        config = config.get("image_processor", config) if isinstance(config, dict) else config
    else:
        config = _json(module / "preprocessor_config.json")
    if not isinstance(config, dict):
        raise WeightsError(f"The preprocessor's configuration in {module} is damaged.")
    return config


def _checked_weights(module: Path) -> Path:
    """Return the weights file. Raises WeightsError if it is missing or cut off."""
    path = module / "model.safetensors"
    if path.is_file():
        size = path.stat().st_size
        if size != _safetensors_size(path):
            raise WeightsError(f"The file {path} is damaged or truncated: {size:,} bytes are not what its header says.")
        return path
    path = module / "pytorch_model.bin"
    if not path.is_file():
        raise WeightsError(f"The file {module / 'model.safetensors'} is missing.")
    if not zipfile.is_zipfile(path):  # the directory of the archive is at its end
        raise WeightsError(f"The file {path} is damaged or truncated.")
    return path


def _safetensors_size(path: Path) -> int | None:
    """Return the file size that a safetensors header declares, or None if invalid.

    The format: eight bytes with the length of the header, the header in JSON, then the tensors at its offsets.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > 100_000_000:
            return None
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return None
    return 8 + length + max(ends, default=0)


def _fingerprint(configs: list[Any], weights_file: Path) -> str:
    digest = hashlib.sha256(json.dumps(configs, sort_keys=True).encode())
    size = weights_file.stat().st_size
    digest.update(str(size).encode())
    with weights_file.open("rb") as file:
        for sample in range(_SAMPLES + 1):
            file.seek(max(0, (size - _SAMPLE_BYTES) * sample // _SAMPLES))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
