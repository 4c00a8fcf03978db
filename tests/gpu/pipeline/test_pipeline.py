"""The pipeline: order of results, requested features, bounded decoding ahead, and constant memory."""

from __future__ import annotations

import psutil
import pytest

from gpu import timings
from gpu.encoders import registry, weights
from gpu.imaging.errors import ImageProcessingError
from gpu.pipeline import run
from gpu.pipeline.preprocess_image import EmbedRequest
from gpu.pipeline.run import ImageFeatures
from gpu.vectors import LEGACY_MODEL
from tests.conftest import use_clip
from tests.helpers.sample_images import as_file, drawing, jpeg


@pytest.fixture
def paths(tmp_path):
    paths = [tmp_path / f"{number}.jpg" for number in range(30)]
    for number, path in enumerate(paths):
        path.write_bytes(jpeg(number, (64 + number, 80)))
    return paths


def test_each_request_gets_its_features_in_order(with_clip, paths):
    requested = [(bool(number % 2), bool(number % 3)) for number in range(len(paths))]
    jobs = [EmbedRequest(path, clip=c, legacy=legacy) for path, (c, legacy) in zip(paths, requested, strict=True)]
    results = list(run.run_pipeline(jobs, batch_size=4))
    given = [(r.clip is not None, r.legacy is not None) for r in results if isinstance(r, ImageFeatures)]
    assert given == requested
    names = {r.clip.model_name for r in results if isinstance(r, ImageFeatures) and r.clip}
    assert names == {weights.model_id()}
    assert {r.legacy.model_name for r in results if isinstance(r, ImageFeatures) and r.legacy} == {LEGACY_MODEL}


def test_unavailable_clip_raises_an_error_before_any_image_is_read(settings, tmp_path):
    use_clip(settings, tmp_path / "nowhere", tmp_path)
    with pytest.raises(registry.ClipUnavailableError):
        run.run_pipeline([EmbedRequest(tmp_path / "gone.jpg", clip=True, legacy=True)])
    (result,) = run.run_pipeline([EmbedRequest(tmp_path / "gone.jpg", clip=False, legacy=True)])
    assert isinstance(result, ImageProcessingError)


def test_no_requests_give_no_results(with_clip):
    assert list(run.run_pipeline([])) == []


def test_only_a_few_batches_are_decoded_ahead(with_clip, paths):
    stream = run.run_pipeline([EmbedRequest(path, clip=True, legacy=False) for path in paths * 10], batch_size=2)
    next(stream)
    for path in paths:
        path.unlink()  # images decoded until now are in memory, all others are lost
    results = list(stream)
    decoded = sum(isinstance(result, ImageFeatures) for result in results)
    encoder = registry.get_encoder()
    assert decoded <= 2 * (2 * encoder.max_in_flight + 3)
    assert len(results) == 299


def test_abandoned_run_ends_its_threads(with_clip, paths):
    stream = run.run_pipeline([EmbedRequest(path, clip=True, legacy=False) for path in paths], batch_size=2)
    next(stream)
    stream.close()
    assert len(list(run.run_pipeline([EmbedRequest(paths[0], clip=True, legacy=False)]))) == 1


def test_query_features_are_both_types_or_legacy_only(with_clip, settings, tmp_path):
    both = run.extract_query_features(jpeg(1))
    assert both.clip is not None
    assert both.legacy is not None
    use_clip(settings, tmp_path / "nowhere", tmp_path)
    alone = run.extract_query_features(jpeg(1))
    assert alone.clip is None
    assert alone.legacy is not None


def test_debug_logs_the_time_of_each_stage(with_clip, settings, paths, caplog):
    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"debug": True}
    timings.drain()
    with caplog.at_level("DEBUG", "gpu"):
        list(run.run_pipeline([EmbedRequest(path, clip=True, legacy=False) for path in paths]))
    (line,) = [record.message for record in caplog.records if "Seconds per stage" in record.message]
    for stage in ("decode", "prepare", "copy", "encode"):
        assert stage in line


def test_memory_does_not_grow_over_a_long_run(with_clip, tmp_path):
    path = tmp_path / "image.jpg"
    path.write_bytes(as_file(drawing(1, (96, 96)), quality=85))
    process = psutil.Process()
    level = 0
    for number, _ in enumerate(run.run_pipeline([EmbedRequest(path, clip=True, legacy=False)] * 1500), 1):
        if number == 300:
            level = process.memory_info().rss
    assert process.memory_info().rss - level < 30 * 2**20
