"""ONNX files as CLIP_MODEL: what they may be, their vectors, and one clear sentence for each that cannot be used."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from django.core.management import CommandError, call_command
from onnx import TensorProto, helper, numpy_helper

from gpu import clip
from gpu.device import describe_device
from gpu.encoders import registry, weights
from gpu.features import extract_features
from gpu.pipeline import run
from gpu.pipeline.preprocess_image import EmbedRequest
from tests.conftest import use_clip
from tests.helpers.sample_images import jpeg, noise

SIDE, DIM = 32, 24
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
DESCRIPTION = {
    "input_size": SIDE, "resize": "squash", "resize_size": SIDE, "crop": None, "interpolation": "bicubic",
    "mean": MEAN, "std": STD, "layout": "NCHW", "input": None, "output": None, "tokens_output": None, "name": "tiny",
}  # fmt: skip


def matrix(dim: int = DIM) -> np.ndarray:
    """Return the weights of the small model: one number for each pixel and colour."""
    return np.random.default_rng(3).normal(size=(3 * SIDE * SIDE, dim)).astype(np.float32)


def write_model(folder, *, inputs=("n", 3, SIDE, SIDE), output=("n", DIM), values=None, name="tiny", external=False,
                reshape=None, elem_type=TensorProto.FLOAT, extra_input=False, **changes):  # fmt: skip
    """Write a linear model and its JSON. ``output`` is the declared shape, whatever the model gives."""
    nodes = [helper.make_node("Flatten", ["pixels"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["vectors"])]
    kept = [numpy_helper.from_array(matrix() if values is None else values, "w")]
    if reshape is not None:
        kept.append(numpy_helper.from_array(np.array(reshape, np.int64), "shape"))
        nodes[-1].output[0] = "rows"
        nodes.append(helper.make_node("Reshape", ["rows", "shape"], ["vectors"]))
    taken = [helper.make_tensor_value_info("pixels", elem_type, inputs)]
    if extra_input:
        taken.append(helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", 77]))
    given = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, output)]
    graph = helper.make_graph(nodes, "tiny", taken, given, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"{name}.onnx"
    onnx.save(model, path, save_as_external_data=external, location=f"{name}.bin", size_threshold=0)
    path.with_suffix(".json").write_text(json.dumps(DESCRIPTION | changes))
    return path


@pytest.fixture
def use(settings, tmp_path):
    """Set CLIP_MODEL to an ONNX file."""
    yield lambda path: use_clip(settings, path, tmp_path / "cache")
    clip.unload()


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    noise(7, (48, 40)).save(path)
    return path


def expected_vector(image, side=SIDE) -> np.ndarray:
    from PIL import Image

    pixels = np.asarray(Image.open(image).convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
    values = ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1).astype(np.float32)
    vector = values.reshape(1, -1) @ matrix()
    return np.asarray(vector[0] / np.linalg.norm(vector))


def test_onnx_file_gives_unit_vectors_under_its_own_name(use, image, tmp_path):
    use(write_model(tmp_path))
    status = registry.clip_status()
    assert (status.available, status.embedding_dim, status.backend) == (True, DIM, "onnx")
    vector = clip.extract_clip_embedding(image)
    assert vector.dtype == np.float32
    assert vector @ expected_vector(image) > 0.99999
    assert weights.model_id().startswith("tiny@")


def test_model_for_one_image_at_a_time_and_free_shapes_are_usable(use, image, tmp_path):
    use(write_model(tmp_path, inputs=(1, 3, SIDE, SIDE), output=(1, DIM), name="one"))
    assert [len(vector) for vector in clip.process_batch([image] * 9) if isinstance(vector, np.ndarray)] == [DIM] * 9
    use(write_model(tmp_path, inputs=("n", 3, "h", "w"), output=("n", "d"), name="free"))
    assert registry.clip_status().embedding_dim is None
    assert clip.extract_clip_embedding(image) @ expected_vector(image) > 0.99999
    assert registry.clip_status().embedding_dim == DIM


def test_fingerprint_covers_file_description_and_external_weights(use, image, tmp_path):
    path = write_model(tmp_path, external=True)
    use(path)
    names = {weights.model_id()}
    assert clip.extract_clip_embedding(image) @ expected_vector(image) > 0.99999
    content = bytearray((tmp_path / "tiny.bin").read_bytes())
    content[-1] ^= 1
    (tmp_path / "tiny.bin").write_bytes(content)
    names.add(weights.model_id())
    path.with_suffix(".json").write_text(json.dumps(DESCRIPTION | {"mean": [0.1, 0.1, 0.1]}))
    names.add(weights.model_id())
    assert len(names) == 3


def test_get_clip_model_says_that_an_onnx_file_is_none(use, tmp_path):
    use(write_model(tmp_path))
    with pytest.raises(registry.ClipUnavailableError, match="not a sentence-transformers model"):
        registry.get_clip_model()


def test_status_says_that_an_onnx_file_runs_on_the_cpu(use, tmp_path, monkeypatch):
    info = describe_device() | {"device": "cuda", "gpu_name": "GeForce", "vram_gb": 8.0, "reason": "CUDA is used."}
    monkeypatch.setattr(registry, "describe_device", lambda: info)
    use(write_model(tmp_path))
    device = registry.embedding_device()
    assert (device["device"], device["gpu_name"]) == ("cpu", None)
    assert "ONNX Runtime" in device["reason"]


def test_export_of_an_onnx_file_is_refused(use, tmp_path):
    use(write_model(tmp_path))
    with pytest.raises(CommandError, match="Only those can be exported"):
        call_command("export_onnx")


def test_several_encoders_stay_loaded_side_by_side(with_clip, tmp_path):
    names = [str(with_clip), str(write_model(tmp_path)), str(write_model(tmp_path, name="b", output=("n", "d")))]
    features = run.extract_query_features(jpeg(1), names)
    assert [part.dim for part in features.embeddings] == [512, DIM, DIM]
    assert features.clip is features.embeddings[0]
    loaded = [registry.get_encoder(name) for name in names]
    assert loaded == [registry.get_encoder(name) for name in names]
    assert registry.get_encoder() is loaded[0]
    write_model(tmp_path, std=[1, 1, 1])
    assert registry.get_encoder(names[1]) is not loaded[1]
    assert registry.get_encoder(names[2]) is loaded[2]
    registry.unload()
    assert registry.idle_seconds() is None


def test_pipeline_runs_the_named_encoder(with_clip, image, tmp_path):
    name = str(write_model(tmp_path))
    (result,) = run.run_pipeline([EmbedRequest(image, clip=True, legacy=False)], model=name)
    assert isinstance(result, run.ImageFeatures)
    assert result.clip is not None
    assert (result.clip.dim, result.clip.model_name) == (DIM, weights.model_id(name))


def check_refused(use, path, sentence, image):
    """The encoder is refused in one line, and legacy features go on."""
    use(path)
    with pytest.raises(registry.ClipUnavailableError) as caught:
        registry.get_encoder()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not registry.is_clip_available()
    assert len(extract_features(image)["shape_features"]) == 7
    assert run.extract_query_features(image).embeddings == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"output": ("n", 512)}, "says that its vectors have 512 numbers, but they have 24"),
        ({"input_size": 64, "resize_size": 64}, "the input pixels is (n, 3, 32, 32), not (n, 3, 64, 64)"),
        ({"inputs": ("n", 3, "h", "w"), "input_size": 64, "resize_size": 64}, "cannot encode images of 64 pixels"),
        ({"layout": "NHWC"}, "not (n, 32, 32, 3)"),
        ({"values": np.full((3 * SIDE * SIDE, DIM), np.nan, np.float32)}, "zero or not finite"),
        ({"values": np.zeros((3 * SIDE * SIDE, DIM), np.float32)}, "zero or not finite"),
        ({"output": ("n", 4, 6), "reshape": (-1, 4, 6)}, "the output vectors is (n, 4, 6)"),
        ({"output": ("n", "d"), "reshape": (-1, 4, 6)}, "cannot be used"),
        ({"output": ("n", "d"), "reshape": (1, -1)}, "not give one vector an image"),
        ({"inputs": (8, 3, SIDE, SIDE), "output": (8, DIM)}, "takes exactly 8 images"),
        ({"extra_input": True}, "an image encoder has one input, but this model has pixels, input_ids"),
        ({"elem_type": TensorProto.INT64}, "cannot load"),
    ],
    ids=str,
)  # fmt: skip
def test_model_that_is_not_what_it_says_is_refused(changes, sentence, use, image, tmp_path):
    if sentence in {"cannot be used", "cannot load"}:
        sentence = ""  # the words are ONNX Runtime's
    check_refused(use, write_model(tmp_path, **changes), sentence, image)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"input_size": None}, '"input_size" must be a whole number'),
        ({"input_size": "32"}, '"input_size" must be a whole number'),
        ({"input_size": True}, '"input_size" must be a whole number'),
        ({"resize": "stretch"}, "\"resize\" is 'stretch', not one of shortest, squash"),
        ({"resize": ["squash"]}, '"resize" is'),
        ({"resize": "shortest"}, '"crop" must be "center"'),
        ({"resize_size": 16}, "does not lead to"),
        ({"interpolation": "magic"}, '"interpolation"'),
        ({"mean": [0.5]}, '"mean" must be three numbers'),
        ({"mean": [float("nan")] * 3}, '"mean" must be three numbers'),
        ({"std": [0.0, 1.0, 1.0]}, '"std" must be above 0'),
        ({"layout": "CHW"}, '"layout"'),
        ({"input": "images"}, "\"input\" is 'images', but the model has pixels"),
        ({"output": "logits"}, "\"output\" is 'logits', but the model has vectors"),
        ({"tokens_output": "tokens"}, "\"tokens_output\" is 'tokens'"),
        ({"name": "a/b"}, '"name" must have'),
        ({"name": 7}, '"name" must be a text'),
    ],
    ids=str,
)
def test_description_with_a_wrong_field_names_it(changes, sentence, use, image, tmp_path):
    path = write_model(tmp_path)
    path.with_suffix(".json").write_text(json.dumps(DESCRIPTION | changes))
    check_refused(use, path, sentence, image)


@pytest.mark.parametrize("field", ["input_size", "resize", "resize_size", "interpolation", "mean", "std", "layout"])
def test_description_without_a_field_names_it(field, use, image, tmp_path):
    path = write_model(tmp_path)
    rest = {key: value for key, value in DESCRIPTION.items() if key != field}
    path.with_suffix(".json").write_text(json.dumps(rest))
    check_refused(use, path, f'"{field}" is missing', image)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "[" * 5000])
def test_description_that_is_no_object_is_refused(content, use, image, tmp_path):
    path = write_model(tmp_path)
    path.with_suffix(".json").write_text(content)
    check_refused(use, path, "tiny.json", image)


def test_missing_files_are_named(use, image, tmp_path):
    path = write_model(tmp_path, external=True)
    (tmp_path / "tiny.bin").rename(tmp_path / "kept.bin")
    check_refused(use, path, "tiny.bin is missing", image)
    (tmp_path / "tiny.bin").write_bytes((tmp_path / "kept.bin").read_bytes()[:1000])
    check_refused(use, path, "tiny.bin is truncated", image)
    path.with_suffix(".json").unlink()
    check_refused(use, path, "tiny.json is missing", image)
    path.unlink()
    check_refused(use, path, "does not exist", image)
    path.mkdir()
    check_refused(use, path, "neither the folder of a model nor an ONNX file", image)


def test_external_weights_outside_the_folder_are_refused(use, image, tmp_path):
    path = write_model(tmp_path, external=True)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../tiny.bin"
    path.write_bytes(model.SerializeToString())
    check_refused(use, path, "damaged, truncated or not ONNX", image)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_truncated_onnx_file_is_refused(share, use, image, tmp_path):
    path = write_model(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    check_refused(use, path, "tiny.onnx is damaged, truncated or not ONNX", image)


@pytest.mark.parametrize("content", [b"not a model", b"\x89PNG\r\n\x1a\n" * 50, bytes(1000), b"\xff" * 1000])
def test_file_that_is_not_onnx_is_refused(content, use, image, tmp_path):
    path = write_model(tmp_path)
    path.write_bytes(content)
    check_refused(use, path, "tiny.onnx is damaged, truncated or not ONNX", image)


def test_damaged_bytes_never_crash(use, image, tmp_path):
    path = write_model(tmp_path)
    content = path.read_bytes()
    random = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(content)
        ends = (*range(200), *range(len(content) - 300, len(content)))
        for position in random.choice(ends, 3):
            damaged[position] = random.integers(256)
        path.write_bytes(damaged)
        use(path)
        try:
            registry.get_encoder()
        except registry.ClipUnavailableError as error:
            assert "\n" not in str(error)  # noqa: PT017  (many are still models)
