"""Measure each CLIP backend beside ``SentenceTransformer.encode`` at its best, on the same files and machine.

    python benchmarks/encode.py --model DIR_OR_NAME --images DIR [--backends auto,torch,onnx,onnx-int8] [--json PATH]
                                [--limit 200] [--repeat 5] [--enlarge PIXELS]

The library runs in float32, in bfloat16, and with its own ONNX and OpenVINO backends if they can be loaded here. Each
takes the batch size that is fastest for it. ``auto`` is what CatalogMatch does by default, after its measurement of
this machine on the same images.

Every contestant is a process of its own with a warm model. They take turns, one round after the other, so that other
load on the machine slows all of them. The figures are medians over the rounds, and over each round's ratio to the
library's default and to its fastest variant. ``--enlarge 4000`` first makes 12-megapixel JPEGs of the images.
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
# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(REPO)

import numpy as np
from PIL import Image

from benchmarks.machine import print_machine

BASELINE = "SentenceTransformer.encode"
PEERS = {
    BASELINE: "float32",
    "SentenceTransformer bfloat16": "bfloat16",
    "SentenceTransformer ONNX": "onnx",
    "SentenceTransformer OpenVINO": "openvino",
}
BATCH_SIZES = (32, 8, 128)  # the library's default first
TRIAL_IMAGES = 64  # with which a peer finds its batch size
MIN_IMAGES = 11  # an image and its ten nearest, for the top-10 agreement


def main() -> None:
    options = _options()
    with ExitStack() as stack:
        if Path(options.model).is_dir():  # export it to ONNX for this run only
            os.environ["CLIP_CACHE_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ |= {
            "CLIP_MODEL": options.model,
            "DJANGO_DEBUG": "1",
            "DJANGO_SETTINGS_MODULE": "catalogmatch.settings",
        }
        os.environ.setdefault("CATALOGMATCH_DATA_DIR", stack.enter_context(tempfile.TemporaryDirectory()))
        files = _readable_images(options.images, options.limit)
        if options.enlarge:
            files = _enlarge(files, options.enlarge, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        backends = options.backends.split(",")
        context = multiprocessing.get_context("spawn")
        if any(backend.startswith("onnx") for backend in backends):
            _run_in_process(context, _export, files, "onnx-int8" in backends)
        if "auto" in backends:
            _run_in_process(context, _measure_backends, options.images)
        contestants = {}
        for name in [*PEERS, *backends]:
            contestant = _Contestant(context, name, files)
            stack.callback(contestant.close)
            if contestant.problem and name == BASELINE:
                raise SystemExit(contestant.problem)
            if contestant.problem:
                print(f"{name} takes no part: {contestant.problem}", flush=True)
            else:
                contestants[name] = contestant
        rounds = [
            {name: contestant.call("embed") for name, contestant in contestants.items()} for _ in range(options.repeat)
        ]
        forward = [{name: c.call("forward") for name, c in contestants.items()} for _ in range(options.repeat)]
        peers = [name for name in contestants if name in PEERS]
        best = min(peers, key=lambda name: statistics.median(round_[name][0] for round_ in rounds))
        rows = [
            _row(contestant, rounds, forward, contestants[BASELINE], best, len(files))
            for contestant in contestants.values()
        ]
        _print(options.model, files, rows)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", required=True, help="a folder (see random_clip.py) or a name whose weights are cached"
    )
    parser.add_argument("--images", required=True, type=Path, help="a folder of images")
    parser.add_argument("--backends", default="auto,torch,onnx,onnx-int8", help="separated by commas (default: these)")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--limit", type=int, default=200, help="images in a round (default: 200)")
    parser.add_argument("--repeat", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--enlarge", type=int, help="first make JPEGs with this longer side")
    return parser.parse_args()


def _readable_images(folder: Path, limit: int) -> list[Path]:
    """Return up to ``limit`` files, spread over the folder, that Pillow can read. The baseline stops at any other."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    readable = []
    for path in files[:: max(1, len(files) // limit)]:
        try:
            with Image.open(path) as image:
                image.load()
        except OSError:
            continue
        readable.append(path)
    if len(readable[:limit]) < MIN_IMAGES:
        raise SystemExit(
            f"{folder} has fewer than {MIN_IMAGES} images that can be used. Give a larger folder or limit."
        )
    return readable[:limit]


def _enlarge(files: Sequence[Path], side: int, folder: Path) -> list[Path]:
    enlarged = []
    for number, path in enumerate(files):
        with Image.open(path) as image:
            factor = side / max(image.size)
            size = (round(image.width * factor), round(image.height * factor))
            enlarged.append(folder / f"{number}.jpg")
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(enlarged[-1], quality=90)
    return enlarged


# --- parent process ------------------------------------------------------------------------------


class _Contestant:
    def __init__(self, context: Any, name: str, files: Sequence[Path]) -> None:
        self.name = name
        self._connection, child_connection = context.Pipe()
        self._process = context.Process(target=_serve, args=(child_connection, name, files), daemon=True)
        self._process.start()
        self.problem: str = self.call("warm_up") or ""

    def call(self, command: str) -> Any:
        self._connection.send(command)
        return self._connection.recv()

    def close(self) -> None:
        self._connection.close()
        self._process.join(10)


def _run_in_process(context: Any, function: Callable[..., None], *args: Any) -> None:
    process = context.Process(target=function, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)


def _row(
    contestant: _Contestant, rounds: Any, forward: Any, baseline: _Contestant, best: str, images: int
) -> dict[str, Any]:
    from gpu.encoders.agreement import measure_agreement

    name = contestant.name
    reference, vectors = baseline.call("vectors"), contestant.call("vectors")
    agreement = measure_agreement(reference, vectors)
    timings = [round_[name][1] for round_ in rounds]
    return {
        "contestant": name,
        "images_per_s": round(statistics.median(images / round_[name][0] for round_ in rounds), 2),
        "forward_images_per_s": round(statistics.median(images / round_[name] for round_ in forward), 2),
        "ratio": round(statistics.median(round_[baseline.name][0] / round_[name][0] for round_ in rounds), 3),
        "ratio_to_best": round(statistics.median(round_[best][0] / round_[name][0] for round_ in rounds), 3),
        "runs": contestant.call("runs"),
        "min_cosine": round(agreement.min_cosine, 6),
        "mean_cosine": round(agreement.mean_cosine, 6),
        "top10_agreement": round(agreement.top10, 4),
        "peak_mb": round(contestant.call("memory"), 1),
        # Milliseconds per image, added up over threads. A thread's waiting for another counts as "encode".
        "stages": {
            stage: round(1000 * statistics.median(spent[stage] for spent in timings) / images, 2)
            for stage in timings[0]
        },
    }


def _print(model: str, files: Sequence[Path], rows: Sequence[dict[str, Any]]) -> None:
    print_machine()
    readme = Path(model) / "README.md"
    print(f"model: {readme.read_text(encoding='utf-8').strip() if readme.is_file() else model}")
    sizes = []
    for path in files:
        with Image.open(path) as image:
            sizes.append(image.size)
    width, height = (statistics.median(side) for side in zip(*sizes, strict=True))
    print(f"{len(files)} images, median size {width:.0f}×{height:.0f}")
    if hasattr(os, "getloadavg"):
        print(f"load average over 1, 5, 15 minutes: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    print(
        "| contestant | runs | images/s | forward only | × default | × its best | min cosine | mean cosine | top-10 "
        "| peak MB | ms per stage |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        timings = ", ".join(f"{name} {spent}" for name, spent in row["stages"].items())
        cosines = f"{row['min_cosine']:.5f} | {row['mean_cosine']:.5f} | {row['top10_agreement']:.3f}"
        print(
            f"| {row['contestant']} | {row['runs']} | {row['images_per_s']} | {row['forward_images_per_s']} | "
            f"{row['ratio']:.2f} | {row['ratio_to_best']:.2f} | {cosines} | {row['peak_mb']:.0f} | {timings} |"
        )


# --- contestants' processes ----------------------------------------------------------------------


def _export(files: Sequence[Path], int8: bool) -> None:
    import django

    django.setup()
    from gpu.encoders import onnx, onnx_export, weights

    found_weights = weights.find_weights()
    float32, quantised = (onnx.find_export(found_weights, precision) for precision in ("float32", "int8"))
    if float32 is None or (int8 and quantised is None):
        onnx_export.export_model(files, int8=int8)


def _measure_backends(folder: Path) -> None:
    import django

    django.setup()
    from gpu.backends.measuring import measure

    measured = measure(os.environ["CLIP_MODEL"], folder, lambda line: print(line, flush=True))
    print(f"auto means {measured.backend}, found in {measured.seconds:.0f} s", flush=True)


def _serve(connection: Connection, name: str, files: Sequence[Path]) -> None:
    os.environ["CLIP_BACKEND"] = "torch" if name in PEERS else name
    import django

    django.setup()
    try:
        contestant: _Peer | _CatalogMatch = _Peer(PEERS[name], files) if name in PEERS else _CatalogMatch()
        contestant.embed(files[:TRIAL_IMAGES])
    except Exception as error:  # noqa: BLE001 # an optional library can fail in any way
        connection.send(" ".join(str(error).split())[:200] or type(error).__name__)
        return
    commands: dict[str, Callable[[], Any]] = {
        "warm_up": lambda: "",
        "runs": lambda: contestant.runs,
        "embed": lambda: _time_embed(contestant, files),
        "forward": lambda: contestant.forward_seconds(files),
        "vectors": lambda: contestant.vectors(files),
        "memory": lambda: (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        ),
    }
    while True:
        try:
            command = connection.recv()
        except EOFError:
            return
        connection.send(commands[command]())


def _time_embed(contestant: _Peer | _CatalogMatch, files: Sequence[Path]) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    timings = contestant.embed(files)
    return time.perf_counter() - start, timings


class _Peer:
    """SentenceTransformer as its documentation uses it, with the batch size that is fastest here."""

    def __init__(self, variant: str, files: Sequence[Path]) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        from gpu.device import get_device_info
        from gpu.encoders.weights import find_weights

        device = get_device_info()["device"]
        is_torch = variant in {"float32", "bfloat16"}
        options: dict[str, Any] = {"model_kwargs": {"dtype": getattr(torch, variant)}} if is_torch else {}
        self.model = SentenceTransformer(
            str(find_weights().folder),
            device="cuda" if device == "rocm" else device,
            backend="torch" if is_torch else variant,  # type: ignore[arg-type]
            **options,
        )
        self.batch_size = BATCH_SIZES[0]
        trial = files[:TRIAL_IMAGES]
        self.vectors(trial)
        seconds = {}
        for self.batch_size in BATCH_SIZES:
            started = time.perf_counter()
            self.vectors(trial)
            seconds[self.batch_size] = time.perf_counter() - started
        self.batch_size = min(seconds, key=lambda size: seconds[size])
        self.runs = f"{variant}, {self.batch_size} at once"

    def vectors(self, files: Sequence[Path]) -> Any:
        parts = []
        for start in range(0, len(files), self.batch_size):
            images = [Image.open(path) for path in files[start : start + self.batch_size]]
            encoded = self.model.encode(
                images, batch_size=self.batch_size, show_progress_bar=False, convert_to_tensor=True
            )
            parts.append(encoded.float().cpu().numpy())
        vectors = np.concatenate(parts)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed(self, files: Sequence[Path]) -> dict[str, float]:
        start = time.perf_counter()
        self.vectors(files)
        return {"encode": time.perf_counter() - start}

    def forward_seconds(self, files: Sequence[Path]) -> float:
        import torch

        seconds = 0.0
        for start in range(0, len(files), self.batch_size):
            inputs: Any = self.model.preprocess(
                [Image.open(path).convert("RGB") for path in files[start : start + self.batch_size]]
            )
            inputs = {
                key: value.to(self.model.device) if hasattr(value, "to") else value for key, value in inputs.items()
            }
            start_time = time.perf_counter()
            with torch.inference_mode():
                self.model(inputs)["sentence_embedding"].float().cpu()
            seconds += time.perf_counter() - start_time
        return seconds


class _CatalogMatch:
    """CatalogMatch's pipeline with the backend in CLIP_BACKEND."""

    def __init__(self) -> None:
        from gpu.encoders import registry

        self.runs = registry.get_encoder().backend

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
        start = time.perf_counter()
        batching.AdaptiveBatcher(encoder, size).start(pixels)()
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
