"""Inspect an ONNX image encoder and the JSON beside it.

Only the file's outline is read, without any ONNX library: its inputs, outputs and the files with further weights.
The format is Protocol Buffers (onnx.proto): each field is a key, the field's number × 8 + its wire type, and a value.
"""

from __future__ import annotations

import functools
import math
import mmap
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from gpu.encoders.model_files import (
    OnnxImageModel,
    Signature,
    Weights,
    WeightsError,
    file_signature,
    make_fingerprint,
    megabytes,
    read_json,
)
from gpu.encoders.preprocess import Preprocess

# Field numbers in onnx.proto.
_GRAPH = 7
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12
_NAME, _TYPE, _TENSOR_TYPE, _SHAPE, _DIM, _DIM_VALUE = 1, 2, 1, 2, 1, 1
_TENSOR_NAME, _EXTERNAL_DATA, _KEY, _VALUE = 8, 13, 1, 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}

MAX_SIDE_PIXELS = 4096
_NAME_PATTERN = re.compile(r"[\w.+-]+(?: [\w.+-]+)*")

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class _Outline:
    """Shapes by name, with None for a free dimension, and the smallest sizes of the files with further weights.

    A shape is None if the file does not declare it.
    """

    inputs: dict[str, Shape | None]
    outputs: dict[str, Shape | None]
    external: dict[str, int]


def onnx_files(path: Path) -> list[Path]:
    """Return the ONNX file, its JSON and the files with further weights. Raises WeightsError."""
    description = path.with_suffix(".json")
    if not description.is_file():
        raise WeightsError(f"The file {description} is missing. It says what images {path.name} takes.")
    (signature,) = file_signature([path])
    external = [path.parent / name for name in _outline(path, signature).external]
    for file in external:
        if not file.is_file():
            raise WeightsError(f"The file {file} is missing. It holds weights of {path.name}.")
    return [path, description, *external]


def inspect_onnx(path: Path, signature: Signature) -> Weights:
    """Check an ONNX file and its JSON. Raises WeightsError and OSError."""
    (own_signature,) = file_signature([path])
    outline = _outline(path, own_signature)
    for name, size in outline.external.items():
        if (actual := (path.parent / name).stat().st_size) < size:
            raise WeightsError(f"The file {path.parent / name} is truncated: {actual:,} of at least {size:,} bytes.")
    config = read_json(path.with_suffix(".json"))
    try:
        if not isinstance(config, dict):
            raise ValueError("it is not a JSON object")
        name = _text(config, "name") or path.stem
        if not _NAME_PATTERN.fullmatch(name) or len(name) > 100:
            raise ValueError('"name" must have at most 100 letters, digits, spaces and . _ + -')
        preprocess = _preprocess(config)
        model, dim = _match(path, outline, config, preprocess.crop)
    except ValueError as error:
        raise WeightsError(f"{path.with_suffix('.json')} does not fit {path.name}: {error}.") from error
    fingerprint = make_fingerprint([config], [path, *(path.parent / name for name in outline.external)])
    return Weights(
        folder=path.parent,
        model_id=f"{name}@{fingerprint[:8]}",
        fingerprint=fingerprint,
        embedding_dim=dim,
        preprocess=preprocess,
        size_mb=megabytes(signature),
        signature=signature,
        format="onnx",
        onnx=model,
    )


def _preprocess(config: Mapping[str, Any]) -> Preprocess:
    size = _pixels(config, "input_size")
    resize = _one_of(config, "resize", ("shortest", "squash"))
    resize_size = _pixels(config, "resize_size")
    crop = None if config.get("crop") is None else _one_of(config, "crop", ("center",))
    if crop is None and resize == "shortest":
        raise ValueError('"resize": "shortest" gives no square, so "crop" must be "center"')
    if resize_size < size or (crop is None and resize_size != size):
        raise ValueError(f'"resize_size" {resize_size} does not lead to "input_size" {size}')
    names = {filter_.name.lower(): filter_ for filter_ in Image.Resampling}
    resample = names[_one_of(config, "interpolation", tuple(names))]
    mean, std = (_colours(config, key) for key in ("mean", "std"))
    if min(std) <= 0:
        raise ValueError('"std" must be above 0')
    return Preprocess(resize_size, size, resample, mean, std, squash=resize == "squash")


def _match(path: Path, outline: _Outline, config: Mapping[str, Any], side: int) -> tuple[OnnxImageModel, int | None]:
    """Compare the JSON with the shapes that the file declares. Return the model and the length of its vectors."""
    if len(outline.inputs) != 1:
        raise ValueError(f"an image encoder has one input, but this model has {', '.join(outline.inputs) or 'none'}")
    layout: Literal["NCHW", "NHWC"] = "NCHW" if _one_of(config, "layout", ("NCHW", "NHWC")) == "NCHW" else "NHWC"
    input_name = _declared(config, "input", outline.inputs)
    output_name = _declared(config, "output", outline.outputs)
    tokens = _declared(config, "tokens_output", outline.outputs) if config.get("tokens_output") is not None else None
    shape = outline.inputs[input_name]
    batch = None
    if shape is not None:
        expected = (3, side, side) if layout == "NCHW" else (side, side, 3)
        if len(shape) != 4 or any(a is not None and a != b for a, b in zip(shape[1:], expected, strict=True)):
            raise ValueError(f"the input {input_name} is {_describe(shape)}, not {_describe((None, *expected))}")
        batch = shape[0]
        if batch not in {None, 1}:
            raise ValueError(f"the model takes exactly {batch} images at once; export it for any number, or for one")
    output = outline.outputs[output_name]
    if output is not None and len(output) != 2:
        raise ValueError(
            f'the output {output_name} is {_describe(output)}, not one vector an image; "output" may name another'
        )
    return OnnxImageModel(path, input_name, output_name, tokens, layout, batch), output[1] if output else None


def _describe(shape: Shape) -> str:
    return f"({', '.join('n' if size is None else str(size) for size in shape)})"


def _declared(config: Mapping[str, Any], key: str, names: Mapping[str, object]) -> str:
    """Return the name under ``key``, or the first one if there is none."""
    name = _text(config, key) or next(iter(names), "")
    if name not in names:
        raise ValueError(f'"{key}" is {name!r}, but the model has {", ".join(names) or "none"}')
    return name


def _text(config: Mapping[str, Any], key: str) -> str | None:
    value = config.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f'"{key}" must be a text or null')
    return value


def _required(config: Mapping[str, Any], key: str) -> Any:
    if key not in config:
        raise ValueError(f'"{key}" is missing')
    return config[key]


def _pixels(config: Mapping[str, Any], key: str) -> int:
    value = _required(config, key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIDE_PIXELS:
        raise ValueError(f'"{key}" must be a whole number from 1 to {MAX_SIDE_PIXELS}')
    return value


def _one_of(config: Mapping[str, Any], key: str, values: tuple[str, ...]) -> str:
    value = _required(config, key)
    if value not in values:
        raise ValueError(f'"{key}" is {value!r}, not one of {", ".join(values)}')
    return str(value)


def _colours(config: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    value = _required(config, key)
    numbers = isinstance(value, list) and len(value) == 3 and all(type(number) in {int, float} for number in value)
    if not numbers or not all(math.isfinite(number) for number in value):
        raise ValueError(f'"{key}" must be three numbers, for red, green and blue')
    red, green, blue = (float(number) for number in value)
    return red, green, blue


@functools.lru_cache(maxsize=32)
def _outline(path: Path, signature: tuple[str, int, int]) -> _Outline:
    """Read the outline of an ONNX file. Raises WeightsError. ``signature`` is the key of the cache."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read_graph(_Message(data, 0, len(data)))
    except ValueError as error:  # also an empty file, and texts that are not UTF-8
        raise WeightsError(f"The file {path} is damaged, truncated or not ONNX.") from error


def _read_graph(model: _Message) -> _Outline:
    graphs = [field for number, field in model if number == _GRAPH and isinstance(field, _Message)]
    if len(graphs) != 1:
        raise ValueError("no graph")
    initializers: set[str] = set()
    inputs: dict[str, Shape | None] = {}
    outputs: dict[str, Shape | None] = {}
    external: dict[str, int] = {}
    for number, field in graphs[0]:
        if not isinstance(field, _Message):
            continue
        if number == _INITIALIZER:
            initializers.add(field.text(_TENSOR_NAME))
            if entries := {e.text(_KEY): e.text(_VALUE) for e in field.messages(_EXTERNAL_DATA)}:
                name = entries.get("location", "")
                if not name or Path(name).is_absolute() or ".." in Path(name).parts:
                    raise ValueError("weights outside the folder")
                end = int(entries.get("offset", "0")) + int(entries.get("length", "0"))
                external[name] = max(end, external.get(name, 0))
        elif number == _INPUT:
            inputs[field.text(_NAME)] = _shape(field)
        elif number == _OUTPUT:
            outputs[field.text(_NAME)] = _shape(field)
    if not inputs or not outputs:
        raise ValueError("no inputs or outputs")
    return _Outline({name: shape for name, shape in inputs.items() if name not in initializers}, outputs, external)


def _shape(value_info: _Message) -> Shape | None:
    for kind in value_info.messages(_TYPE):
        for tensor in kind.messages(_TENSOR_TYPE):
            for shape in tensor.messages(_SHAPE):
                return tuple(dimension.number(_DIM_VALUE) for dimension in shape.messages(_DIM))
    return None


class _Message:
    """A message in the file: iterating gives each field's number and its value, a number or a message."""

    def __init__(self, data: mmap.mmap, start: int, end: int) -> None:
        self.data, self.start, self.end = data, start, end

    def __iter__(self) -> Iterator[tuple[int, int | _Message]]:
        """Yield the fields. Raises ValueError for anything that is not Protocol Buffers."""
        position = self.start
        while position < self.end:
            key, position = self._varint(position)
            number, wire = key >> 3, key & 7
            value: int | _Message
            if wire == _VARINT:
                value, position = self._varint(position)
            elif wire == _BYTES:
                size, position = self._varint(position)
                value, position = _Message(self.data, position, position + size), position + size
            elif wire in _FIXED_SIZES:
                value, position = 0, position + _FIXED_SIZES[wire]  # floats, which no outline needs
            else:
                raise ValueError("unknown wire type")
            if position > self.end or number == 0:
                raise ValueError("truncated")
            yield number, value

    def messages(self, number: int) -> Iterator[_Message]:
        return (field for found, field in self if found == number and isinstance(field, _Message))

    def text(self, number: int) -> str:
        return next((self.data[m.start : m.end].decode() for m in self.messages(number)), "")

    def number(self, number: int) -> int | None:
        """Return a positive number, or None if the field is missing: a free dimension has a name instead."""
        found = next((field for key, field in self if key == number and isinstance(field, int)), 0)
        return found if 0 < found < 2**63 else None

    def _varint(self, position: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if position >= self.end:
                break
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise ValueError("truncated")
