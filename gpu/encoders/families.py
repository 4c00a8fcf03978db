"""The families of vision models that transformers loads: the length of their vectors, and their usual preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CLIP_COLOURS = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_IMAGENET_COLOURS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_SQUARE = {"size": {"height": 224, "width": 224}, "do_center_crop": False}

# What each family's image processor does unless its file says otherwise. Saved files leave defaults out.
_CLIP: dict[str, Any] = {"size": 224, "crop_size": 224, "resample": 3, **_CLIP_COLOURS}
_SIGLIP: dict[str, Any] = {**_SQUARE, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_DINOV2: dict[str, Any] = {"size": 256, "crop_size": 224, "resample": 3, **_IMAGENET_COLOURS}
_DINOV3: dict[str, Any] = {**_SQUARE, "resample": 2, **_IMAGENET_COLOURS}


@dataclass(frozen=True, slots=True)
class Family:
    """Models of one ``model_type``.

    dim_key, default_dim: where the configuration has the length of the vectors, and its default.
    half: whether half precision on CUDA was compared with full precision.
    """

    dim_key: str
    default_dim: int
    processor: Mapping[str, Any]
    half: bool = False

    def dim(self, config: Mapping[str, Any]) -> int:
        """Return the length of the vectors. Raises ValueError."""
        value: Any = config
        for key in self.dim_key.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, list) and value:
            value = value[-1]
        value = self.default_dim if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"its {self.dim_key} is {value!r}")
        return value


FAMILIES: dict[str, Family] = {
    "clip": Family("projection_dim", 512, _CLIP, half=True),
    "clip_vision_model": Family("hidden_size", 768, _CLIP, half=True),
    "metaclip_2": Family("projection_dim", 512, _CLIP),
    "siglip": Family("vision_config.hidden_size", 768, _SIGLIP),
    "siglip_vision_model": Family("hidden_size", 768, _SIGLIP),
    "dinov2": Family("hidden_size", 768, _DINOV2),
    "dinov2_with_registers": Family("hidden_size", 768, _DINOV2),
    "dinov3_vit": Family("hidden_size", 384, _DINOV3),
    "dinov3_convnext": Family("hidden_sizes", 768, _DINOV3),
}

# Vision models with a projection, which have another class than AutoModel's.
WITH_PROJECTION: dict[str, Family] = {"CLIPVisionModelWithProjection": Family("projection_dim", 512, _CLIP, half=True)}


def family_of(config: Mapping[str, Any]) -> Family | None:
    """Return the family of a model's ``config.json``, or None if it is not a supported image encoder."""
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures and str(architectures[0]) in WITH_PROJECTION:
        return WITH_PROJECTION[str(architectures[0])]
    return FAMILIES.get(str(config.get("model_type")))
