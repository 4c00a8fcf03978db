"""The public CLIP functions: vectors, order of results, and behaviour without a model."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gpu import clip
from gpu.encoders import registry
from gpu.features import detect_feature_type, extract_features
from gpu.imaging.errors import ImageProcessingError
from tests.conftest import use_clip
from tests.helpers.sample_images import as_file, drawing, truncated


@pytest.fixture
def photographs(tmp_path):
    """Write forty images of different sizes and formats."""
    paths = []
    for number in range(40):
        size = (230 + 7 * number, 420 - 5 * number)
        kind = ("JPEG", "PNG", "WebP")[number % 3]
        paths.append(tmp_path / f"{number}.{kind.lower()}")
        paths[-1].write_bytes(as_file(drawing(number, size), kind))
    return paths


def test_an_embedding_is_512_float32_of_unit_length(with_clip, photographs):
    embedding = clip.extract_clip_embedding(photographs[0])
    assert embedding.shape == (512,)
    assert embedding.dtype == np.float32
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)


def test_embeddings_equal_those_of_sentence_transformers(with_clip, photographs):
    actual = np.stack([vector for vector in clip.process_batch(photographs) if isinstance(vector, np.ndarray)])
    images = [Image.open(path).convert("RGB") for path in photographs]
    expected = registry.get_clip_model().encode(images, normalize_embeddings=True)
    assert np.einsum("ij,ij->i", actual, expected).min() > 0.99999


def test_broken_images_do_not_shift_the_results_of_others(with_clip, photographs):
    alone = {path: clip.extract_clip_embedding(path) for path in photographs}
    broken = set(photographs[::20])
    for path in broken:
        path.write_bytes(truncated(path.read_bytes()))
    gone = photographs[7]
    gone.unlink()
    results = clip.process_batch(photographs, batch_size=5)
    for path, result in zip(photographs, results, strict=True):
        if path in broken or path == gone:
            assert isinstance(result, ImageProcessingError)
            assert result.code == ("file_missing" if path == gone else "image_corrupt")
        else:
            assert not isinstance(result, ImageProcessingError)
            assert result @ alone[path] > 0.99999


def test_single_broken_image_raises_an_error(with_clip, tmp_path):
    (tmp_path / "note.jpg").write_text("not an image")
    with pytest.raises(ImageProcessingError) as caught:
        clip.extract_clip_embedding(tmp_path / "note.jpg")
    assert caught.value.code == "not_an_image"


def test_large_jpeg_decoded_at_reduced_size_has_nearly_the_same_vector(with_clip, tmp_path):
    large = tmp_path / "large.jpg"
    image = drawing(5, (800, 600)).resize((4000, 3000))
    large.write_bytes(as_file(image, quality=90))
    full = registry.get_clip_model().encode([Image.open(large)], normalize_embeddings=True)[0]
    assert clip.extract_clip_embedding(large) @ full >= 0.999


def test_legacy_features_are_used_without_a_model_and_the_reason_is_given(settings, tmp_path, photographs):
    use_clip(settings, "clip-ViT-B-32", tmp_path / "cache")
    assert not registry.is_clip_available()
    with pytest.raises(registry.ClipUnavailableError, match="download_model"):
        clip.process_batch(photographs)
    features = extract_features(photographs[0])
    assert [part.shape for part in features.values()] == [(256,), (7,), (256,)]
    assert detect_feature_type(features["color_features"]) == "legacy"


def test_extract_features_returns_the_documented_dictionary(with_clip, photographs):
    features = extract_features(photographs[0])
    assert [len(part) for part in features.values()] == [512, 0, 0]
    assert detect_feature_type(features["color_features"]) == "clip"
    legacy = extract_features(photographs[0], use_clip=False)
    assert [len(part) for part in legacy.values()] == [256, 7, 256]


def test_vector_of_unknown_length_has_no_feature_type():
    with pytest.raises(ValueError, match="768"):
        detect_feature_type(np.zeros(768, np.float32))


def test_unloadable_model_is_not_retried_until_its_files_change(own_clip, settings, tmp_path):
    use_clip(settings, own_clip, tmp_path / "cache")
    config = own_clip / "0_CLIPModel" / "config.json"
    whole = config.read_text()
    config.write_text(whole.replace('"num_attention_heads": 2', '"num_attention_heads": 7'))
    assert registry.is_clip_available()  # its files are complete
    with pytest.raises(registry.ClipUnavailableError, match="cannot be loaded"):
        registry.get_encoder()
    assert not registry.is_clip_available()
    assert "cannot be loaded" in str(registry.clip_status().reason)
    config.write_text(whole)
    assert registry.get_encoder().dim == 512
    registry.unload()


def test_unknown_backend_is_rejected_by_name(with_clip, settings):
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"backend": "cuda"}
    with pytest.raises(registry.ClipUnavailableError, match=r"must be one of auto, torch, .*onnx, onnx-int8"):
        registry.get_encoder()


def test_model_is_loaded_once_and_again_after_unloading(with_clip):
    model, encoder = registry.get_clip_model(), registry.get_encoder()
    assert registry.get_clip_model() is model
    assert registry.get_encoder() is encoder
    registry.unload()
    assert registry.idle_seconds() is None
    assert registry.get_encoder() is not encoder
