"""The loss: views of one product shall be more alike than those of different products."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TEMPERATURE = 0.07
_NEVER = -1e4  # instead of minus infinity, whose gradient is not a number


def contrastive_loss(vectors: torch.Tensor, labels: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
    """Return the multiple-negatives loss of unit vectors (n, d) with labels (n,).

    Each other row of the same label is a positive, and ``apart`` (n, n) says which rows are negatives of which. Pairs
    that are neither count as unknown. Rows without a positive are negatives only. Sources: van den Oord et al.,
    "Representation learning with contrastive predictive coding", 2018; Khosla et al., "Supervised contrastive
    learning", 2020.
    """
    import torch
    from torch.nn.functional import softplus

    similar = vectors @ vectors.T / TEMPERATURE
    same = labels[:, None] == labels[None, :]
    same.fill_diagonal_(fill_value=False)
    against = similar.masked_fill(~apart, _NEVER).logsumexp(dim=1, keepdim=True)
    # -log(e^s / (e^s + negatives)) of each positive
    losses = torch.where(same, softplus(against - similar), 0.0)
    positives = same.sum(dim=1)
    per_row = losses.sum(dim=1) / positives.clamp(min=1)
    return per_row.sum() / (positives > 0).sum().clamp(min=1)
