"""The main segment of a large catalogue: built, loaded, updated, replaced, and checked for damage."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.vectors import clip_like_vectors
from gpu.search_vectors import search_vector
from gpu.vectors import CLIP, LEGACY, LEGACY_MODEL, Features
from matching import index
from matching.index import Filters, changes, main_file, main_segment, maintenance
from matching.index.inprocess import VectorCatalogue
from matching.index.models import IndexChange
from products.models import Feature, Product
from tests.helpers.vectors import (
    MODEL,
    add_product,
    add_products,
    embeddings,
    exact_scores,
    legacy_features,
    random_vectors,
)

pytestmark = pytest.mark.django_db

N = 1200


@pytest.fixture(autouse=True)
def _small_crossover(monkeypatch, settings, tmp_path):
    settings.INDEX_DIR = tmp_path / "index"
    monkeypatch.setattr(maintenance, "MIN_VECTORS_FOR_ANN", 1000)
    monkeypatch.setattr(main_segment, "MAX_EXACT_ROWS", 50)
    monkeypatch.setattr(maintenance, "MIN_CHANGED_ROWS", 100)


@pytest.fixture
def woken(monkeypatch) -> list[bool]:
    calls: list[bool] = []
    monkeypatch.setattr(maintenance, "request_maintenance", lambda: calls.append(True))
    return calls


@pytest.fixture
def vectors() -> np.ndarray:
    return random_vectors(N, dim=64)


@pytest.fixture
def products(vectors) -> list[Product]:
    return add_products(embeddings(vectors))


@pytest.fixture
def built(products: list[Product]) -> list[Product]:
    index.rebuild()
    return products


def a_process() -> VectorCatalogue:
    """Imitate a process that has just started, with an empty memory."""
    return VectorCatalogue(CLIP, MODEL)


def found(process: VectorCatalogue, query: np.ndarray, k: int = 10, **filters) -> list[int]:
    return [hit.product_id for hit in process.search(np.atleast_2d(query), k, Filters(**filters))]


def stamp_path() -> Path:
    return main_file.folder_of(CLIP, MODEL) / "stamp.json"


def main_segment_of(process: VectorCatalogue):
    return process.current_snapshot().main


def test_main_segment_finds_the_results_and_scores_of_exact_search(vectors, built):
    process = a_process()
    hit = 0
    for query in random_vectors(30, seed=8, dim=64):
        scores = exact_scores(query, vectors)
        truth = {built[i].pk for i in np.argsort(-scores)[:10]}
        hits = process.search(query[None], 10, Filters())
        hit += len(truth & {one.product_id for one in hits})
        by_product = dict(zip((product.pk for product in built), scores, strict=True))
        assert [one.score for one in hits] == pytest.approx([by_product[one.product_id] for one in hits], abs=1e-4)
    assert main_segment_of(process) is not None
    assert hit >= 0.95 * 300


def test_legacy_features_get_a_main_segment_too():
    features = legacy_features(1200)
    products = add_products(features)
    index.rebuild()
    hits = VectorCatalogue(LEGACY, LEGACY_MODEL).search(search_vector(features[5])[None], 3, Filters())
    assert hits[0].product_id == products[5].pk
    assert main_file.read_stamp(LEGACY, LEGACY_MODEL).count == 1200


def test_wide_vectors_are_found_by_their_principal_directions():
    vectors = random_vectors(1500, dim=400)
    products = add_products(embeddings(vectors))
    index.rebuild()
    assert found(a_process(), vectors[3], 1) == [products[3].pk]


@pytest.mark.parametrize("category", [None, "a tenth"])
def test_clustered_vectors_are_found_with_and_without_a_filter(category):
    made = clip_like_vectors(4000, queries=40, dim=96)
    products = add_products(embeddings(made.vectors))
    tenth = np.random.default_rng(3).permutation(4000)[:400]
    Product.objects.filter(pk__in=[products[row].pk for row in tenth]).update(category="a tenth")
    index.rebuild()
    process, hit = a_process(), 0
    for query in made.queries:
        rows = np.arange(4000) if category is None else tenth
        truth = rows[np.argsort(-exact_scores(query, made.vectors[rows]))[:10]]
        hit += len({products[row].pk for row in truth} & set(found(process, query, 10, category=category)))
    assert hit >= 0.96 * 400
    assert main_segment_of(process).stamp.probes < 100  # of 126 lists: it has not just searched all of them


def test_products_of_many_images_do_not_crowd_out_the_others(vectors, built):
    rng = np.random.default_rng(5)
    near_vectors = [vectors[0] + rng.normal(scale=0.01, size=64) for _ in range(150)]
    crowded = add_product(*embeddings(near_vectors))
    index.rebuild()
    hits = found(a_process(), vectors[0], 10)
    assert len(set(hits)) == 10
    assert {crowded.pk, built[0].pk} <= set(hits)


def test_every_query_image_contributes_its_best_products(vectors, built):
    hits = found(a_process(), vectors[[3, 700, 1100]], 3)
    assert set(hits) == {built[3].pk, built[700].pk, built[1100].pk}


def test_filtered_search_of_the_main_segment_still_returns_k_products(vectors, built):
    Product.objects.filter(pk__in=[product.pk for product in built[:300]]).update(category="mugs")
    Product.objects.filter(pk__in=[product.pk for product in built[300:330]]).update(category="lamps")
    Product.objects.filter(pk=built[0].pk).update(is_historical=False)
    index.rebuild()
    process = a_process()
    mugs, lamps = {product.pk for product in built[1:300]}, {product.pk for product in built[300:330]}

    some_mugs = found(process, vectors[0], 200, category="mugs", historical=True)
    assert len(some_mugs) == 200
    assert set(some_mugs) <= mugs
    assert set(found(process, vectors[0], 299, category="mugs", historical=True)) == mugs
    assert found(process, vectors[0], 299, category="mugs", exclude_product=built[1].pk)[0] == built[0].pk
    assert set(found(process, vectors[0], 40, category="lamps")) == lamps
    assert set(found(process, vectors[0], 40, product_ids=frozenset(lamps))) == lamps
    assert len(found(process, vectors[0], N)) == N


def test_changes_after_the_build_are_found_at_once(vectors, built):
    process = a_process()
    new, moved = random_vectors(2, seed=77, dim=64)
    assert found(process, vectors[5], 1) == [built[5].pk]

    added = add_product(*embeddings([new]), category="new")
    built[5].features.update(**Feature.columns(Features.from_embedding(moved, MODEL)))
    Product.objects.filter(pk=built[6].pk).update(category="moved")
    deleted = built[7].pk
    built[7].delete()

    for reader in (process, a_process()):
        assert found(reader, new, 1) == [added.pk]
        assert found(reader, new, 5, category="new") == [added.pk]
        assert found(reader, moved, 1) == [built[5].pk]
        assert found(reader, vectors[5], 1) != [built[5].pk]
        assert found(reader, vectors[6], 5, category="moved") == [built[6].pk]
        assert deleted not in found(reader, vectors[7], 50)
        assert main_segment_of(reader) is not None


def test_running_process_loads_the_next_main_segment(vectors, built):
    process = a_process()
    before = main_segment_of(process).stamp
    add_products(embeddings(random_vectors(20, seed=3, dim=64)))
    index.rebuild()

    found(process, vectors[0])

    assert main_segment_of(process).stamp.count == before.count + 20
    delta = process.current_snapshot().delta
    assert delta is not None
    assert len(delta.rows) == 0
    assert {path.suffix for path in stamp_path().parent.iterdir()} == {".json", ".faiss", ".rows"}
    assert len(list(stamp_path().parent.iterdir())) == 3


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:200] = b"x" * 100
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("harm", [_truncate, _garble, Path.unlink])
@pytest.mark.parametrize("suffix", [".json", ".faiss", ".rows"])
def test_damaged_file_leads_to_exact_search_and_a_rebuild(vectors, built, woken, monkeypatch, harm, suffix):
    [path] = stamp_path().parent.glob(f"*{suffix}")
    harm(path)
    monkeypatch.setattr("matching.index.inprocess._catalogues", {})

    hits = index.search(vectors[:1], 10, kind=CLIP, model=MODEL)

    order = np.argsort(-exact_scores(vectors[0], vectors))[:10]
    assert [hit.product_id for hit in hits] == [built[i].pk for i in order]
    assert woken
    if suffix == ".json":
        assert index.maintain()
    else:
        assert index.rebuild()
    assert main_segment_of(a_process()) is not None


def test_main_segment_of_another_model_or_other_data_is_not_used(vectors, built):
    path = stamp_path()
    content = json.loads(path.read_text())

    path.write_text(json.dumps(content | {"model": "another"}))
    assert main_segment_of(a_process()) is None

    path.write_text(json.dumps(content | {"format": 0}))
    assert main_segment_of(a_process()) is None

    content["revision"]["token"] += 1
    path.write_text(json.dumps(content))
    process = a_process()
    assert main_segment_of(process) is None
    assert found(process, vectors[0], 1) == [built[0].pk]


def test_loaded_main_segment_stays_in_use_while_its_successor_is_damaged(vectors, built):
    process = a_process()
    found(process, vectors[0])
    stamp_path().write_text("{")
    assert found(process, vectors[0], 1) == [built[0].pk]
    assert main_segment_of(process) is not None


@contextmanager
def _limited_file_size(size: int) -> Iterator[None]:
    """Limit files of this process to ``size`` bytes. Larger writes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _as_another_user() -> Iterator[None]:
    """Run as a user who owns none of the files, because root could read them all."""
    os.seteuid(65534 if os.getuid() == 0 else os.getuid())
    try:
        yield
    finally:
        os.seteuid(os.getuid())


@pytest.mark.parametrize("missing", [1, 5000, 100_000])
def test_full_disk_raises_a_clear_error_and_the_old_file_stays_in_use(vectors, built, missing):
    before = main_file.read_stamp(CLIP, MODEL)
    add_products(embeddings(random_vectors(20, seed=3, dim=64)))
    [size, _] = before.checks[before.index_name]

    with _limited_file_size(size - missing), pytest.raises(index.IndexFileError) as error:
        index.rebuild()

    assert error.value.code == "base_not_written"
    assert str(stamp_path().parent) in str(error.value)
    assert main_file.read_stamp(CLIP, MODEL) == before
    assert len(list(stamp_path().parent.iterdir())) == 3
    assert main_segment_of(a_process()) is not None


def test_file_of_another_user_leads_to_exact_search_and_a_clear_error(vectors, built, woken, caplog):
    folder = stamp_path().parent
    for path in [*folder.iterdir(), folder.parent / "lock"]:
        path.chmod(0)
    with _as_another_user():
        assert found(a_process(), vectors[0], 1) == [built[0].pk]
        assert "cannot be read" in caplog.text
        with pytest.raises(index.IndexFileError) as error:
            index.rebuild()
    assert error.value.code == "base_not_written"
    assert "Permission denied" in str(error.value)


@pytest.mark.usefixtures("unconstrained_vectors")
def test_status_counts_vectors_that_the_index_left_out(products):
    products[3].features.update(color_features=bytes(4 * 64))
    index.rebuild()
    assert index.invalid_feature_ids() == [products[3].features.get().pk]


def test_maintenance_builds_only_stale_segments(products):
    assert len(index.maintain()) == 1
    assert index.maintain() == []
    add_products(embeddings(random_vectors(90, seed=3, dim=64)))
    assert index.maintain() == []
    add_products(embeddings(random_vectors(200, seed=4, dim=64)))
    assert len(index.maintain()) == 1


def test_two_processes_never_build_at_the_same_time(built):
    with maintenance._build_lock(wait=True):
        IndexChange.objects.all().delete()
        assert index.maintain() == []
    assert len(index.maintain()) == 1


def test_file_is_deleted_with_the_last_vector(built):
    Feature.objects.all().delete()
    index.maintain()
    assert not stamp_path().exists()


def test_change_log_is_pruned_and_a_lagging_process_reloads(vectors, built, monkeypatch):
    monkeypatch.setattr(maintenance, "MIN_LOG_ROWS", 5)
    process = a_process()
    found(process, vectors[0])
    changed = add_product(*embeddings([-vectors[0]]))
    index.rebuild()
    assert IndexChange.objects.count() <= 6
    assert found(process, -vectors[0], 1) == [changed.pk]


def test_status_says_what_to_do(products):
    [before] = index.describe()
    assert "searched exactly" in before.text
    assert "reindex --index-only" in before.remedy
    index.rebuild()
    [after] = index.describe()
    assert "index file" in after.text
    assert after.remedy == ""


def test_progress_is_reported(products):
    steps: list[tuple[str, int, int]] = []
    index.rebuild(lambda *step: steps.append(step))
    assert {what for what, *_ in steps} == {"sample", "train", "add"}
    assert steps[-1] == ("add", N, N)


def test_altering_a_table_leaves_the_triggers_in_place(django_db_blocker):
    assert changes.missing_triggers() == set()
