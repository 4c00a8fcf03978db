"""Find a model's files, check that they are complete, and name the vectors of the model.

Nothing here loads a model or imports torch, because the web process also uses it.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from django.conf import settings

from gpu.encoders.folders import inspect_folder
from gpu.encoders.model_files import Signature, Weights, WeightsError, file_signature
from gpu.encoders.onnx_file import inspect_onnx, onnx_files

__all__ = ["HUB_OWNER", "Weights", "WeightsError", "cache_dir", "find_weights", "model_id"]

HUB_OWNER = "sentence-transformers"

ONNX_SUFFIX = ".onnx"

# Dimensions of the hub's models, known before their weights are downloaded.
_HUB_DIMENSIONS = {"clip-ViT-B-32": 512, "clip-ViT-B-16": 512, "clip-ViT-L-14": 768}


def is_local(name: str) -> bool:
    """Return whether ``name`` is a local folder or ONNX file and not a name on the hub."""
    looks_local = name.startswith((".", "~")) or is_onnx_file(name) or Path(name).is_absolute()
    return looks_local or (os.sep in name and Path(name).is_dir())


def is_onnx_file(name: str) -> bool:
    """Return whether ``name`` is an ONNX file."""
    return name.endswith(ONNX_SUFFIX)


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
    path = model_path(name)
    try:
        files = onnx_files(path) if path.suffix == ONNX_SUFFIX else (p for p in path.rglob("*") if p.is_file())
        return _inspect(name, path, file_signature(files))
    except OSError as error:
        raise WeightsError(f"The model in {path} cannot be read: {error.strerror or error}.") from error


def model_id(name: str | None = None) -> str:
    """Return the name that is stored with features.

    It is the hub's name, or ``name@fingerprint`` for a local folder or ONNX file. A local model with missing or broken
    files has its bare name, under which no feature is ever stored.
    """
    name = name or settings.CLIP_CONFIG["model_name"]
    if not is_local(name):
        return name.removeprefix(f"{HUB_OWNER}/")
    try:
        return find_weights(name).model_id
    except WeightsError:
        return Path(name).expanduser().name.removesuffix(ONNX_SUFFIX)


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


def model_path(name: str) -> Path:
    """Return the model's folder, or its ONNX file. Raises WeightsError."""
    if is_local(name):
        path = Path(name).expanduser()
        # The JSON is beside the name that was given, even if that is a link.
        path = path.absolute() if path.suffix == ONNX_SUFFIX else path.resolve()
        if not path.exists():
            what = "file" if path.suffix == ONNX_SUFFIX else "folder"
            raise WeightsError(f"CLIP_MODEL names the {what} {path}, which does not exist.")
        if path.is_dir() == (path.suffix == ONNX_SUFFIX):
            raise WeightsError(f"{path} is neither the folder of a model nor an ONNX file.")
        return path
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


@functools.lru_cache(maxsize=32)
def _inspect(name: str, path: Path, signature: Signature) -> Weights:
    if path.suffix == ONNX_SUFFIX:
        return inspect_onnx(path, signature)
    return inspect_folder(path, None if is_local(name) else name.removeprefix(f"{HUB_OWNER}/"), signature)
