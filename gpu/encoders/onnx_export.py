"""Export CLIP's image and text encoders to ONNX, and compare them with torch on real images before use."""

from __future__ import annotations

import errno
import io
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from core import files
from gpu.encoders import onnx, weights
from gpu.encoders.agreement import Agreement, measure_agreement
from gpu.encoders.modules import image_encoder, text_encoder
from gpu.encoders.onnx import Modality, OnnxEncoder, Precision
from gpu.encoders.preprocess import Pixels
from gpu.encoders.protocol import Embeddings, Pending
from gpu.encoders.torch import TorchEncoder, load_torch
from gpu.encoders.weights import Weights
from gpu.images import decode
from gpu.imaging.errors import ImageProcessingError

# What a precision must reach: the lowest and the mean cosine to torch's vectors, and the share of each image's ten
# nearest neighbours that stay the same.
MIN_COSINE = {"float32": 0.9999, "int8": -1.0}
MEAN_COSINE = {"float32": 0.9999, "int8": 0.99}
MIN_TOP10 = {"float32": 0.90, "int8": 0.90}

# Fewer images say nothing about the ten nearest; more add nothing.
MIN_IMAGES, MAX_IMAGES = 20, 200

_OPSET = 17
_PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
_MODALITIES: tuple[Modality, ...] = ("image", "text")
_CHUNK = 16
SENTENCES = ("a red mug", "a bottle of apple juice", "running shoes in a box", "a lamp standing on a wooden table")


class ExportError(Exception):
    """The export failed or is not accurate enough. The message says why in one line."""


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """One installed precision.

    ``agreement`` is None if there were too few images to measure.
    """

    precision: Precision
    path: Path
    size_mb: float
    agreement: Agreement | None


def export_model(images: Sequence[Path], *, int8: bool = False, force: bool = False) -> list[ExportedModel]:
    """Export the configured model and install what agrees with torch.

    Exports float32 and, if ``int8``, INT8. float32 needs a cosine ≥ 0.9999. INT8 needs a mean cosine ≥ 0.99 and ≥ 90 %
    of the ten nearest in common, measured on at least 20 readable ``images``. ``force`` installs INT8 below these
    limits, or unmeasured. An export becomes visible only when it is complete. Raises ExportError and WeightsError.
    """
    model_weights = weights.find_weights()
    if model_weights.format != "sentence-transformers":
        raise ExportError(f"{model_weights.model_id} is no sentence-transformers model. Only those can be exported.")
    prepared = _preprocess_sample(images, model_weights)
    with _work_folder(model_weights) as work:
        return _export(model_weights, work, prepared, int8=int8, force=force, renew=True)


def export_precision(model_weights: Weights, precision: Precision, prepared: Sequence[Pixels]) -> None:
    """Write one precision, measured on the pixels of at least MIN_IMAGES images. An ONNX file has only INT8 to write.

    A float32 export that is there already stays as it is. Raises ExportError, LoadError and WeightsError.
    """
    with _work_folder(model_weights) as work:
        if model_weights.onnx is not None:
            _quantise_file(model_weights, model_weights.onnx.path, work, prepared)
        else:
            _export(model_weights, work, prepared, int8=precision == "int8", force=False, renew=False)


@contextmanager
def _work_folder(model_weights: Weights) -> Iterator[Path]:
    """Make a temporary folder on the disk of the exports. Raises ExportError if the block cannot write to it."""
    folder = onnx.export_folder(model_weights)
    try:
        files.make_folder(folder)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
            yield Path(temporary)
    except OSError as error:
        raise ExportError(f"The export cannot be written to {folder}: {error.strerror or error}.") from error


def _export(
    model_weights: Weights, work: Path, prepared: Sequence[Pixels], *, int8: bool, force: bool, renew: bool
) -> list[ExportedModel]:
    model = load_torch(model_weights, "cpu")
    clip = model[0].auto_model
    reference = TorchEncoder(image_encoder(clip, model_weights.preprocess), "cpu", model_weights)
    expected = _encode(reference, prepared)
    if int8 and len(prepared) < MIN_IMAGES and not force:
        raise ExportError(
            f"INT8 is installed only after a measurement on at least {MIN_IMAGES} images "
            f"({len(prepared)} could be read). Name a folder with --verify, or use --force."
        )
    _write_float32(model, model_weights, work)
    if int8:
        _write_int8(work)
    text_cosine = _compare_int8_text(model, work) if int8 else 1.0  # before float32 is moved into place
    installed = []
    if renew or onnx.find_export(model_weights, "float32") is None:
        installed.append(_install(model_weights, work, "float32", prepared, expected))
    if int8:
        if text_cosine < MEAN_COSINE["int8"] and not force:
            raise ExportError(
                f"int8 is not installed because its text encoder differs from torch: cosine {text_cosine:.5f}."
            )
        installed.append(_install(model_weights, work, "int8", prepared, expected, force=force))
    return installed


def _quantise_file(model_weights: Weights, source: Path, work: Path, prepared: Sequence[Pixels]) -> None:
    """Write the INT8 version of an ONNX file. Raises ExportError and LoadError."""
    import onnx as onnx_format

    expected = _encode(onnx.open_export(source, "float32", model_weights), prepared)
    for name, _size, _time in model_weights.signature:
        shutil.copy(name, work)
    target = work / onnx.export_file_name("image", "int8")
    _quantise(work / source.name, target)
    operations = {node.op_type for node in onnx_format.load(target, load_external_data=False).graph.node}
    if "DynamicQuantizeLinear" not in operations:
        raise ExportError("It has no matrix products with fixed weights, which INT8 would make faster.")
    _install(model_weights, work, "int8", prepared, expected, modalities=("image",))


def _preprocess_sample(images: Sequence[Path], model_weights: Weights) -> list[Pixels]:
    """Return the pixels of up to MAX_IMAGES readable images, spread over all."""
    step = max(1, len(images) // MAX_IMAGES)
    prepared = []
    for path in images[::step][:MAX_IMAGES]:
        try:
            prepared.append(model_weights.preprocess(decode(path)))
        except ImageProcessingError:
            continue  # a folder may hold other files; the report says how many were read
    return prepared


def _encode(encoder: TorchEncoder | OnnxEncoder, prepared: Sequence[Pixels]) -> Embeddings:
    started: list[Pending] = [encoder.start(prepared[i : i + _CHUNK]) for i in range(0, len(prepared), _CHUNK)]
    # Without images, an empty array of the right length.
    return np.concatenate([pending() for pending in started]) if started else np.empty((0, encoder.dim), np.float32)


def _write_float32(model: Any, model_weights: Weights, work: Path) -> None:
    import torch

    clip = model[0].auto_model
    crop = model_weights.preprocess.crop
    pixels = torch.zeros((2, crop, crop, 3), dtype=torch.uint8)
    words = model.preprocess(list(SENTENCES))
    text = (words["input_ids"], words["attention_mask"])
    batch, tokens = {0: "n"}, {0: "n", 1: "tokens"}
    write_module(
        image_encoder(clip, model_weights.preprocess),
        (pixels,),
        {"pixels": batch},
        work / onnx.export_file_name("image", "float32"),
    )
    inputs = {"input_ids": tokens, "attention_mask": tokens}
    module = text_encoder(clip)
    write_module(module, text, inputs, work / onnx.export_file_name("text", "float32"))
    with torch.inference_mode():
        expected = module(*text).numpy()
    actual = _run_text(work / onnx.export_file_name("text", "float32"), text)
    if (worst := float(np.einsum("ij,ij->i", expected, actual).min())) < MIN_COSINE["float32"]:
        raise ExportError(f"The exported text encoder differs from torch: cosine {worst:.5f}.")


def write_module(module: Any, example: tuple[Any, ...], inputs: dict[str, dict[int, str]], path: Path) -> None:
    """Write a torch module as ONNX. ``inputs``: for each input its free dimensions. The output is ``embedding``."""
    import torch

    content = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracer warns of branches that depend on shapes. The result is compared with torch afterwards.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            content,  # type: ignore[arg-type]  # accepts a file object, contrary to its annotation
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(inputs),
            output_names=["embedding"],
            dynamic_axes={**inputs, "embedding": {0: "n"}},
        )
    with content.getbuffer() as view:  # Python 3.13 complains if the buffer outlives its file
        path.write_bytes(view)


def _run_text(path: Path, text: tuple[Any, ...]) -> Embeddings:
    ids, mask = (part.numpy() for part in text)
    return np.asarray(onnx.open_session(path).run(None, {"input_ids": ids, "attention_mask": mask})[0])


def _write_int8(work: Path) -> None:
    """Quantise both encoders."""
    for modality in _MODALITIES:
        source, target = (work / onnx.export_file_name(modality, precision) for precision in _PRECISIONS)
        _quantise(source, target)


def _quantise(source: Path, target: Path) -> None:
    """Quantise the matrix products of a model: weights per output channel, activations dynamically.

    The quantiser leaves files beside its input.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a preparation that changes nothing here
    try:
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            # Without VNNI, 8 × 8 bit products overflow the 16-bit sums; 7 bits do not.
            reduce_range=not _has_vnni(),
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
        )
    except DecodeError as error:  # the quantiser does not notice a truncated working file
        raise OSError(errno.ENOSPC, "No space left for the working files of INT8") from error
    finally:
        root.setLevel(level)


def _compare_int8_text(model: Any, work: Path) -> float:
    """Return the mean cosine of both precisions' vectors of some sentences."""
    words = model.preprocess(list(SENTENCES))
    text = (words["input_ids"], words["attention_mask"])
    expected, actual = (_run_text(work / onnx.export_file_name("text", precision), text) for precision in _PRECISIONS)
    return float(np.einsum("ij,ij->i", expected, actual).mean())


def _has_vnni() -> bool:
    """Return whether the CPU sums byte products in 32 bits.

    Only Linux on x86 tells. Others are not affected.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return True
    return "vnni" in flags or "sse2" not in flags


def _is_accurate(measured: Agreement, precision: Precision) -> bool:
    return (
        measured.min_cosine >= MIN_COSINE[precision]
        and measured.mean_cosine >= MEAN_COSINE[precision]
        and measured.top10 >= MIN_TOP10[precision]
    )


def _install(
    model_weights: Weights,
    work: Path,
    precision: Precision,
    prepared: Sequence[Pixels],
    expected: Embeddings,
    *,
    force: bool = False,
    modalities: Sequence[Modality] = _MODALITIES,
) -> ExportedModel:
    """Measure the exported files in ``work`` and move them into place, the stamp last."""
    measured = None
    if len(prepared) >= MIN_IMAGES:
        exported = onnx.open_export(work / onnx.export_file_name("image", precision), precision, model_weights)
        actual = _encode(exported, prepared)
        measured = measure_agreement(expected, actual)
        if not _is_accurate(measured, precision) and not force:
            raise ExportError(f"{precision} is not installed because it differs too much from torch: {measured}.")
    names = [onnx.export_file_name(modality, precision) for modality in modalities]
    sizes = {name: (work / name).stat().st_size for name in names}
    stamp = {
        "model_id": model_weights.model_id,
        "fingerprint": model_weights.fingerprint,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": sizes,
        "agreement": asdict(measured) if measured else None,
    }
    (work / onnx.stamp_file_name(precision)).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
    folder = onnx.export_folder(model_weights)
    stamp_name = onnx.stamp_file_name(precision)
    for name in [*names, stamp_name]:
        files.sync_file(work / name)
    for name in names:
        (work / name).replace(folder / name)
    files.sync_folder(folder)  # the models are on the disk before their stamp
    (work / stamp_name).replace(folder / stamp_name)
    files.sync_folder(folder)
    image = folder / names[0]
    return ExportedModel(precision, image, round(sum(sizes.values()) / 2**20, 1), measured)
