"""Hold the weights of evidence that are assumed before any is learned from pairs."""

from __future__ import annotations

from matching.evidence.model import EvidenceModel

# Log-odds at the values -1 and 1 before anything is learned. Public pairs have few or no identifiers, volumes, weights,
# packs and attributes, so theirs stay as they are here. An identifier: one in 150 of the same products has another one
# by mistake, and one in 3,000 of different products shares one. A part number or a model is printed with variations.
# Quantities: shops round and mistype in one of 30 names.
_ASSUMED_LOG_ODDS: dict[str, tuple[float, float]] = {
    "identifier": (-5.0, 8.0), "part_number": (-1.5, 4.0), "model": (-1.5, 2.5), "name": (-0.5, 0.5),
    "letters": (-1.0, 1.5), "words": (-0.5, 1.0), "rare_word": (0.0, 3.0), "missing_word": (-1.5, 0.0),
    "description": (-0.5, 0.5), "number": (-1.0, 0.3), "pack": (-3.5, 0.5), "size": (-3.0, 0.5),
    "colour": (-2.5, 0.7), "brand": (-1.5, 0.7), "category": (-0.3, 0.3), "attributes": (-1.5, 1.5),
    "price": (-1.0, 1.0), "volume": (-3.5, 0.7), "weight": (-3.5, 0.7), "memory": (-2.5, 0.5),
    "length": (-1.0, 0.3), "power": (-1.0, 0.3), "voltage": (-1.0, 0.3), "charge": (-1.0, 0.3),
    "frequency": (-1.0, 0.3), "resolution": (-1.0, 0.3), "pages": (-1.0, 0.3), "users": (-1.0, 0.3),
    "speed": (-1.0, 0.3),
}  # fmt: skip
ASSUMED = EvidenceModel(
    base=-3.0,
    weights={
        kind: (against, against * 2 / 3, against / 3, 0.0, favour / 3, favour * 2 / 3, favour)
        for kind, (against, favour) in _ASSUMED_LOG_ODDS.items()
    },
)
