"""Image and text encoders ("towers") as torch modules: what torch runs and the ONNX export writes."""

from __future__ import annotations

import operator
from typing import Any

from gpu.encoders.preprocess import Preprocess

# The parts of a layer of CLIP's vision model, named as in every weights file.
_NORMS_AND_MLP = ("layer_norm1", "layer_norm2", "mlp")
_ATTENTION = tuple(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "out_proj"))

_ALL_TOKENS, _CLASS_TOKEN = slice(None), slice(1)


def image_encoder(model: Any, preprocess: Preprocess) -> Any:
    """Return a torch module from pixels to unit vectors.

    Pixels are (n, crop, crop, 3) uint8, vectors (n, dim) float32. It shares the weights of ``model``, a vision model of
    transformers or a model with a vision part. Pixels arrive as bytes and are normalised here.
    """
    import torch

    class ImageEncoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vision = getattr(model, "vision_model", model)
            self.projection = getattr(model, "visual_projection", torch.nn.Identity())
            self.dtype = next(self.vision.parameters()).dtype
            scale, shift = preprocess.scale_and_shift()
            self.scale: torch.Tensor
            self.shift: torch.Tensor
            self.register_buffer("scale", torch.from_numpy(scale).view(1, 3, 1, 1), persistent=False)
            self.register_buffer("shift", torch.from_numpy(shift).view(1, 3, 1, 1), persistent=False)
            self.pool = _pool if _is_known(self.vision) else _pool_with_transformers

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            normalised = pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift
            pooled = self.pool(self.vision, normalised.to(self.dtype))
            return torch.nn.functional.normalize(self.projection(pooled).float(), dim=-1)

    return ImageEncoder().eval()


def token_encoder(model: Any, preprocess: Preprocess) -> Any:
    """Return a torch module from the pixels of ``image_encoder`` to its vectors before scaling, and all tokens.

    Vectors are (n, dim), tokens (n, tokens, dim): both in one space.
    """
    import torch

    encoder = image_encoder(model, preprocess)
    is_clip = _is_known(encoder.vision)

    class TokenEncoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            own = self.encoder
            normalised = pixels.permute(0, 3, 1, 2).float() * own.scale + own.shift
            found = own.vision(pixel_values=normalised.to(own.dtype))
            # CLIP normalises only the class token. Other families have normalised all.
            hidden = own.vision.post_layernorm(found.last_hidden_state) if is_clip else found.last_hidden_state
            return own.projection(found.pooler_output).float(), own.projection(hidden).float()

    return TokenEncoder().eval()


def use_precision(model: Any, precision: str) -> None:
    """Let a vision model compute its matrix products in ``bfloat16`` or ``float16``.

    Sums between layers and norms stay in float32. That halves the error and costs nothing (measured with bfloat16).
    """
    import torch

    dtype = getattr(torch, precision)

    class HalfLinear(torch.nn.Module):
        def __init__(self, linear: torch.nn.Linear) -> None:
            super().__init__()
            self.linear = linear.to(dtype)

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.linear(values.to(dtype)))

    for parent in list(getattr(model, "vision_model", model).modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear:  # others read the weights of their subclasses directly
                setattr(parent, name, HalfLinear(child))


def text_encoder(model: Any, *, use_mask: bool = True) -> Any:
    """Return a torch module from token ids and attention mask to unit vectors.

    Both inputs are (n, tokens), vectors (n, dim) float32. ``model`` has a text part. SigLIP was trained without a mask.
    """
    import torch

    class TextEncoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.text = model.text_model
            self.projection = getattr(model, "text_projection", torch.nn.Identity())

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            mask = attention_mask if use_mask else None
            pooled = self.text(input_ids=input_ids, attention_mask=mask).pooler_output
            return torch.nn.functional.normalize(self.projection(pooled).float(), dim=-1)

    return TextEncoder().eval()


def sentence_encoder(model: Any) -> Any:
    """Return a torch module like that of ``text_encoder``, from a sentence-transformers text model."""
    import torch

    class SentenceEncoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList(model)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            features: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
            for part in self.parts:
                features = part(features)
            return torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=-1)

    return SentenceEncoder().eval()


def _pool(vision: Any, pixel_values: Any) -> Any:
    """Return the class token of each image: (n, 3, crop, crop) to (n, width).

    The vision transformer of Dosovitskiy et al. 2021 with CLIP's norm before the first layer (Radford et al. 2021).
    Only the class token is used, so the last layer computes only that token, from the keys and values of all tokens.
    """
    tokens = vision.pre_layrnorm(vision.embeddings(pixel_values))
    *layers, last = vision.encoder.layers
    for layer in layers:
        tokens = _layer(layer, tokens, _ALL_TOKENS)
    return vision.post_layernorm(_layer(last, tokens, _CLASS_TOKEN)[:, 0])


def _layer(layer: Any, tokens: Any, selected: slice) -> Any:
    """Apply a layer and return the ``selected`` tokens.

    From (n, tokens, width) to (n, selected, width).
    """
    import torch

    attention = layer.self_attn
    normalised = layer.layer_norm1(tokens)
    query, key, value = (
        projected.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for projected in (
            attention.q_proj(normalised[:, selected]),
            attention.k_proj(normalised),
            attention.v_proj(normalised),
        )
    )
    attended = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    result = tokens[:, selected] + attention.out_proj(attended.transpose(1, 2).flatten(2))
    return result + layer.mlp(layer.layer_norm2(result))


def _is_known(vision: Any) -> bool:
    """Return whether the vision model has the parts that ``_pool`` uses.

    Another version of transformers may name them differently.
    """
    try:
        operator.attrgetter("embeddings", "pre_layrnorm", "post_layernorm")(vision)
        for layer in vision.encoder.layers:
            operator.attrgetter("self_attn.num_heads", *_ATTENTION, *_NORMS_AND_MLP)(layer)
    except AttributeError:
        return False
    return True


def _pool_with_transformers(vision: Any, pixel_values: Any) -> Any:
    return vision(pixel_values=pixel_values).pooler_output
