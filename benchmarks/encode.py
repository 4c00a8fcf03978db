"""What embedding costs: each backend beside plain ``SentenceTransformer.encode``, on the same files and machine.

    python benchmarks/encode.py --model DIR_OR_NAME --images DIR [--backends torch,onnx,onnx-int8] [--json PATH]
                                [--limit 200] [--repeat 5] [--enlarge PIXELS]

Every contestant is a process of its own that has its model loaded and warm; they take turns, one round after
the other, so that whatever else the machine does falls on all of them. Printed are medians over the rounds, and
of each round's ratio to the baseline. ``--enlarge 4000`` first makes 12-megapixel JPEGs of the pictures.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
# Instead of this file's folder, whose http.py would hide Python's own.
sys.path[0] = str(REPO)

import numpy as np
from PIL import Image

from benchmarks.machine import print_machine

BASELINE = "SentenceTransformer.encode"
BASELINE_BATCH = 32  # the library's default, and the guide's


def main() -> None:
    options = _options()
    with ExitStack() as stack:
        if Path(options.model).is_dir():  # its exports are made for this run only
            os.environ["CLIP_CACHE_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ |= {
            "CLIP_MODEL": options.model,
            "DJANGO_DEBUG": "1",
            "DJANGO_SETTINGS_MODULE": "catalogmatch.settings",
        }
        os.environ.setdefault("CATALOGMATCH_DATA_DIR", stack.enter_context(tempfile.TemporaryDirectory()))
        files = _pictures(options.images, options.limit)
        if options.enlarge:
            files = _enlarged(files, options.enlarge, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        backends = options.backends.split(",")
        context = multiprocessing.get_context("spawn")
        if any(backend.startswith("onnx") for backend in backends):
            _in_process(context, _export, files, "onnx-int8" in backends)
        contestants = {name: _Contestant(context, name, files) for name in [BASELINE, *backends]}
        for contestant in contestants.values():
            stack.callback(contestant.close)
        rounds = [
            {name: contestant.ask("files") for name, contestant in contestants.items()} for _ in range(options.repeat)
        ]
        forward = [{name: c.ask("forward") for name, c in contestants.items()} for _ in range(options.repeat)]
        rows = [
            _row(contestant, rounds, forward, contestants[BASELINE], len(files)) for contestant in contestants.values()
        ]
        _print(options.model, files, rows)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the CLIP backends beside SentenceTransformer.encode.")
    parser.add_argument(
        "--model", required=True, help="a folder (see random_clip.py) or a name whose weights are cached"
    )
    parser.add_argument("--images", required=True, type=Path)
    parser.add_argument("--backends", default="torch,onnx,onnx-int8")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--limit", type=int, default=200, help="pictures in a round")
    parser.add_argument("--repeat", type=int, default=5, help="rounds")
    parser.add_argument("--enlarge", type=int, help="make JPEGs of this longer side first")
    return parser.parse_args()


def _pictures(folder: Path, limit: int) -> list[Path]:
    """Up to ``limit`` files, spread over the folder, that Pillow can read: the baseline stops at any other."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    readable = []
    for path in found[:: max(1, len(found) // limit)]:
        try:
            with Image.open(path) as picture:
                picture.load()
        except OSError:
            continue
        readable.append(path)
    if len(readable[:limit]) <= 10:
        raise SystemExit(f"{folder} has not enough pictures.")
    return readable[:limit]


def _enlarged(files: Sequence[Path], side: int, folder: Path) -> list[Path]:
    made = []
    for number, path in enumerate(files):
        with Image.open(path) as picture:
            factor = side / max(picture.size)
            size = (round(picture.width * factor), round(picture.height * factor))
            made.append(folder / f"{number}.jpg")
            picture.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(made[-1], quality=90)
    return made


# --- the parent's side ---------------------------------------------------------------------------


class _Contestant:
    def __init__(self, context: Any, name: str, files: Sequence[Path]) -> None:
        self.name = name
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, files), daemon=True)
        self._process.start()
        self.ask("warm")

    def ask(self, what: str) -> Any:
        self._connection.send(what)
        return self._connection.recv()

    def close(self) -> None:
        self._connection.close()
        self._process.join(10)


def _in_process(context: Any, work: Callable[..., None], *args: Any) -> None:
    process = context.Process(target=work, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def _row(contestant: _Contestant, rounds: Any, forward: Any, baseline: _Contestant, pictures: int) -> dict[str, Any]:
    from gpu.encoders.agreement import measure_agreement

    name = contestant.name
    reference, vectors = baseline.ask("vectors"), contestant.ask("vectors")
    measured = measure_agreement(reference, vectors)
    timings = [round_[name][1] for round_ in rounds]
    return {
        "contestant": name,
        "images_per_s": round(statistics.median(pictures / round_[name][0] for round_ in rounds), 2),
        "forward_images_per_s": round(statistics.median(pictures / round_[name] for round_ in forward), 2),
        "ratio": round(statistics.median(round_[baseline.name][0] / round_[name][0] for round_ in rounds), 3),
        "min_cosine": round(measured.min_cosine, 6),
        "mean_cosine": round(measured.mean_cosine, 6),
        "top10_agreement": round(measured.top10, 4),
        "peak_mb": round(contestant.ask("memory"), 1),
        # Milliseconds per picture, added up over threads; what one thread waits for another is in "encode".
        "stages": {
            stage: round(1000 * statistics.median(spent[stage] for spent in timings) / pictures, 2)
            for stage in timings[0]
        },
    }


def _print(model: str, files: Sequence[Path], rows: Sequence[dict[str, Any]]) -> None:
    print_machine()
    about = Path(model) / "README.md"
    print(f"model: {about.read_text(encoding='utf-8').strip() if about.is_file() else model}")
    sizes = []
    for path in files:
        with Image.open(path) as picture:
            sizes.append(picture.size)
    width, height = (statistics.median(side) for side in zip(*sizes, strict=True))
    print(f"{len(files)} pictures, median size {width:.0f}×{height:.0f}")
    if hasattr(os, "getloadavg"):
        print(f"load average over 1, 5, 15 minutes: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    print(
        "| contestant | images/s | forward only | ratio | min cosine | mean cosine | top-10 | peak MB | ms per stage |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        timings = ", ".join(f"{name} {spent}" for name, spent in row["stages"].items())
        cosines = f"{row['min_cosine']:.5f} | {row['mean_cosine']:.5f} | {row['top10_agreement']:.3f}"
        print(
            f"| {row['contestant']} | {row['images_per_s']} | {row['forward_images_per_s']} | {row['ratio']:.2f} | "
            f"{cosines} | {row['peak_mb']:.0f} | {timings} |"
        )


# --- the contestants' side -----------------------------------------------------------------------


def _export(files: Sequence[Path], int8: bool) -> None:
    import django

    django.setup()
    from gpu.encoders import onnx, onnx_export, weights

    found = weights.find_weights()
    if onnx.find_export(found, "float32") is None or (int8 and onnx.find_export(found, "int8") is None):
        onnx_export.export_model(files, int8=int8)


def _serve(connection: Connection, name: str, files: Sequence[Path]) -> None:
    os.environ["CLIP_BACKEND"] = "torch" if name == BASELINE else name
    import django

    django.setup()
    contestant: _Plain | _Ours = _Plain() if name == BASELINE else _Ours()
    answers: dict[str, Callable[[], Any]] = {
        "warm": lambda: contestant.embed(files[:BASELINE_BATCH]) and None,
        "files": lambda: _timed(contestant, files),
        "forward": lambda: contestant.forward_seconds(files),
        "vectors": lambda: contestant.vectors(files),
        "memory": lambda: (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        ),
    }
    while True:
        try:
            what = connection.recv()
        except EOFError:
            return
        connection.send(answers[what]())


def _timed(contestant: _Plain | _Ours, files: Sequence[Path]) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    timings = contestant.embed(files)
    return time.perf_counter() - started, timings


class _Plain:
    """What a user writes from the library's documentation."""

    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        from gpu.device import get_device_info
        from gpu.encoders.weights import find_weights

        device = get_device_info()["device"]
        self.model = SentenceTransformer(str(find_weights().folder), device="cuda" if device == "rocm" else device)

    def vectors(self, files: Sequence[Path]) -> Any:
        parts = []
        for start in range(0, len(files), BASELINE_BATCH):
            pictures = [Image.open(path) for path in files[start : start + BASELINE_BATCH]]
            parts.append(self.model.encode(pictures, batch_size=BASELINE_BATCH, show_progress_bar=False))
        vectors = np.concatenate(parts)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed(self, files: Sequence[Path]) -> dict[str, float]:
        started = time.perf_counter()
        self.vectors(files)
        return {"encode": time.perf_counter() - started}

    def forward_seconds(self, files: Sequence[Path]) -> float:
        import torch

        spent = 0.0
        for start in range(0, len(files), BASELINE_BATCH):
            inputs: Any = self.model.preprocess(
                [Image.open(path).convert("RGB") for path in files[start : start + BASELINE_BATCH]]
            )
            inputs = {
                key: value.to(self.model.device) if hasattr(value, "to") else value for key, value in inputs.items()
            }
            began = time.perf_counter()
            with torch.inference_mode():
                self.model(inputs)["sentence_embedding"].cpu()
            spent += time.perf_counter() - began
        return spent


class _Ours:
    """CatalogMatch's own pipeline with the backend of CLIP_BACKEND."""

    def __init__(self) -> None:
        from gpu.encoders import registry

        registry.get_encoder()
        self._vectors: Any = None

    def vectors(self, files: Sequence[Path]) -> Any:
        from gpu.clip import process_batch

        return np.stack([vector for vector in process_batch(files) if isinstance(vector, np.ndarray)])

    def embed(self, files: Sequence[Path]) -> dict[str, float]:
        from gpu import timings

        timings.drain()
        self.vectors(files)
        return dict(timings.drain())  # type: ignore[arg-type]  # a stage's name is a str

    def forward_seconds(self, files: Sequence[Path]) -> float:
        from gpu.encoders import registry
        from gpu.images import decode
        from gpu.pipeline import batching

        encoder = registry.get_encoder()
        pixels = [encoder.preprocess(decode(path, draft_side=encoder.preprocess.draft_side)) for path in files]
        size = batching.batch_size(encoder.device, batching.free_memory_gb(encoder.device), encoder.cpu_batch_size)
        began = time.perf_counter()
        batching.AdaptiveBatcher(encoder, size).start(pixels)()
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
