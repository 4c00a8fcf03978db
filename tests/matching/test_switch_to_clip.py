"""A catalogue that was loaded without CLIP switches to CLIP by the command reindex."""

from __future__ import annotations

import json

import pytest

from benchmarks.random_clip import build
from gpu.encoders import registry
from products.models import Feature
from tests.helpers.commands import run
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import write_csv, write_images


@pytest.mark.django_db
def test_reindex_computes_clip_features_for_images_with_legacy_features_only(settings, tmp_path):
    write_images(tmp_path / "in", *(f"{number}.jpg" for number in range(5)))
    assert run("import_products", tmp_path / "in", "--historical").code == 0
    (tmp_path / "q.jpg").write_bytes(jpeg(3))
    queries = write_csv(tmp_path / "q.csv", [{"image": "q.jpg", "sku": "2"}])
    assert run("evaluate_matching", queries, "--feature-type", "clip").code == 1

    settings.CLIP_CONFIG = settings.CLIP_CONFIG | {"model_name": str(build(tmp_path / "model"))}
    try:
        assert "Embedded 5 images" in run("reindex").out
        assert sorted(Feature.objects.values_list("kind", flat=True)) == ["clip"] * 5 + ["legacy"] * 5
        assert "Embedded 0 images" in run("reindex").out
        for options, compared_by in (([], "clip"), (["--feature-type", "legacy"], "legacy")):
            report = tmp_path / "report.json"
            assert run("evaluate_matching", queries, "--json", report, *options).code == 0
            figures = json.loads(report.read_text())
            assert figures["recall@1"] == 1.0
            assert figures["compared_by"][0].startswith(compared_by)
    finally:
        registry.unload()
