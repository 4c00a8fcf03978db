"""Inspect folders of models that torch loads, in the layouts of sentence-transformers and transformers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from gpu.encoders.families import FAMILIES, Family, family_of
from gpu.encoders.model_files import Format, Signature, Weights, WeightsError, make_fingerprint, megabytes, read_json
from gpu.encoders.preprocess import Preprocess

# The families whose image and text encoders sentence-transformers loads together.
_TWO_TOWERS = ("clip", "metaclip_2")


def inspect_folder(folder: Path, model_name: str | None, signature: Signature) -> Weights:
    """Check every file of a model's folder and return its description.

    ``model_name`` is the name on the hub, or None for a local folder. Raises WeightsError and OSError.
    """
    if (folder / "modules.json").is_file():
        module, config, family = _sentence_transformer(folder)
        kind: Format = "sentence-transformers"
    elif (folder / "config.json").is_file():
        module = folder
        config, family = _vision_model(folder)
        kind = "transformers"
    else:
        raise WeightsError(f"The files modules.json and config.json are missing in {folder}.")
    preprocessor = _preprocessor(module)
    if kind == "sentence-transformers":
        _check_tokenizer(module)
    files = checked_weights(module)
    try:
        dim = family.dim(config)
        preprocess = Preprocess.from_config({**family.processor, **preprocessor})
    except (ValueError, TypeError) as error:
        raise WeightsError(f"The model in {folder} cannot be used: {error}.") from error
    fingerprint = make_fingerprint([config, preprocessor], files)
    return Weights(
        folder=folder,
        model_id=model_name or f"{folder.name}@{fingerprint[:8]}",
        fingerprint=fingerprint,
        embedding_dim=dim,
        preprocess=preprocess,
        size_mb=megabytes(signature),
        signature=signature,
        format=kind,
    )


def safetensors_names(path: Path) -> set[str]:
    """Return the names of the tensors in a file that was checked."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return set(header) - {"__metadata__"}


def module_folder(folder: Path) -> Path:
    """Return where the configuration and weights are in a model's folder, in either layout."""
    listing = folder / "modules.json"
    return folder / str(read_json(listing)[0].get("path", "")) if listing.is_file() else folder


def _sentence_transformer(folder: Path) -> tuple[Path, dict[str, Any], Family]:
    modules = read_json(folder / "modules.json")
    if not isinstance(modules, list) or not modules or not all(isinstance(module, dict) for module in modules):
        raise WeightsError(f"{folder / 'modules.json'} does not list the model's modules.")
    others = [str(module.get("type")) for module in modules[1:] if not str(module.get("type")).endswith("Normalize")]
    if others:
        raise WeightsError(f"The model in {folder} has more than a CLIP encoder: {', '.join(others)}.")
    module = folder / str(modules[0].get("path", ""))
    config = read_json(module / "config.json")
    if not isinstance(config, dict) or config.get("model_type") not in _TWO_TOWERS or "vision_config" not in config:
        raise WeightsError(f"{module / 'config.json'} does not describe a CLIP model.")
    return module, config, FAMILIES[config["model_type"]]


def _vision_model(folder: Path) -> tuple[dict[str, Any], Family]:
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise WeightsError(f"{folder / 'config.json'} does not describe a model.")
    if (family := family_of(config)) is not None:
        return config, family
    kind = config.get("model_type")
    if kind in ("siglip2", "siglip2_vision_model"):
        raise WeightsError(
            f"The model in {folder} takes images of changing shape (NaFlex). Use a SigLIP 2 of one size, "
            "such as google/siglip2-base-patch16-224."
        )
    raise WeightsError(
        f"{folder / 'config.json'} does not describe an image encoder that can be used: its model_type is {kind!r}, "
        f"not one of {', '.join(FAMILIES)}."
    )


def _check_tokenizer(module: Path) -> None:
    if not (module / "tokenizer.json").is_file():
        for part in ("vocab.json", "merges.txt"):
            if not (module / part).is_file():
                raise WeightsError(f"The file {module / part} is missing.")


def _preprocessor(module: Path) -> dict[str, Any]:
    """Return the image processor's configuration.

    Newer libraries write it into ``processor_config.json``.
    """
    if not (module / "preprocessor_config.json").is_file() and (module / "processor_config.json").is_file():
        config = read_json(module / "processor_config.json")
        config = config.get("image_processor", config) if isinstance(config, dict) else config
    else:
        config = read_json(module / "preprocessor_config.json")
    if not isinstance(config, dict):
        raise WeightsError(f"The preprocessor's configuration in {module} is damaged.")
    return config


def checked_weights(module: Path) -> list[Path]:
    """Return the weights files. Raises WeightsError if one is missing or cut off."""
    if (module / "model.safetensors").is_file():
        return [_checked_safetensors(module / "model.safetensors")]
    if (module / "model.safetensors.index.json").is_file():
        return [_checked_safetensors(module / name) for name in _shards(module / "model.safetensors.index.json")]
    path = module / "pytorch_model.bin"
    if not path.is_file():
        raise WeightsError(f"The file {module / 'model.safetensors'} is missing.")
    if not zipfile.is_zipfile(path):  # the directory of the archive is at its end
        raise WeightsError(f"The file {path} is damaged or truncated.")
    return [path]


def _shards(index: Path) -> list[str]:
    """Return the names of the files that hold the parts of a large model."""
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names or not all(Path(str(n)).name == n for n in names.values()):
        raise WeightsError(f"The file {index} is damaged: it does not name the files of the weights.")
    return sorted(set(names.values()))


def _checked_safetensors(path: Path) -> Path:
    if not path.is_file():
        raise WeightsError(f"The file {path} is missing.")
    if (size := path.stat().st_size) != _safetensors_size(path):
        raise WeightsError(f"The file {path} is damaged or truncated: {size:,} bytes are not what its header says.")
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
