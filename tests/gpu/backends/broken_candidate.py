"""A candidate process whose INT8 backend is broken in the way that BROKEN names."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np

from gpu.backends import candidate, loading


def load_broken(backend: str, model_weights: Any) -> Any:
    encoder = loading.load_encoder(backend, model_weights)
    if backend != "onnx-int8":
        return encoder
    match os.environ["BROKEN"]:
        case "crash":
            os.kill(os.getpid(), signal.SIGILL)
        case "NaN":
            encoder._run = lambda pixels: np.full((len(pixels), 24), np.nan, np.float32)  # type: ignore[attr-defined]
        case "hang":
            signal.pause()
        case "other vectors":
            run = encoder._run  # type: ignore[attr-defined]
            encoder._run = lambda pixels: run(pixels[:, ::-1])  # type: ignore[attr-defined]
    return encoder


if __name__ == "__main__":
    vars(candidate)["load_encoder"] = load_broken
    candidate.main()
