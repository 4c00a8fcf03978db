"""The script of 40 lines that ``whole_job.py`` competes with: two folders of images in, ten candidates an image out.

python -m benchmarks.whole_job_script MODEL CATALOGUE_DIR QUESTIONS_DIR TOP10_JSON [float32|bfloat16] [BATCH]
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from sentence_transformers import SentenceTransformer

BEST = 10


def embed(model: Any, files: list[Path], batch: int) -> torch.Tensor:
    parts = []
    for start in range(0, len(files), batch):
        images = [Image.open(path) for path in files[start : start + batch]]
        parts.append(model.encode(images, batch_size=batch, convert_to_tensor=True, show_progress_bar=False).float())
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


def main(name: str, catalogue: str, questions: str, target: str, precision: str = "float32", batch: str = "32") -> None:
    model = SentenceTransformer(name, model_kwargs={"dtype": getattr(torch, precision)})
    known, asked = (sorted(Path(folder).iterdir()) for folder in (catalogue, questions))
    scores = embed(model, asked, int(batch)) @ embed(model, known, int(batch)).T
    best = scores.topk(min(BEST, len(known))).indices.tolist()
    answers = {path.name: [known[i].name for i in row] for path, row in zip(asked, best, strict=True)}
    Path(target).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
