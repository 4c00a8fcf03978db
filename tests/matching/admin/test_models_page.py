"""The page Models: managers learn, compare, switch and roll back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import Settings

from gpu.models import ModelSwitch, ModelVersion
from matching.learning import model_jobs
from matching.models import Match, ModelJob
from matching.review import verdicts
from products.images.cleaning import Upload
from products.images.intake import add_product as add_stored
from products.models import Feature, Product
from products.queue.embed import embed_pending
from tests.gpu.encoders.test_downloads import running_hub
from tests.helpers.accounts import user_in
from tests.helpers.commands import run
from tests.helpers.jobs import wait_for_jobs
from tests.helpers.rows import browser_of
from tests.helpers.sample_images import jpeg
from tests.helpers.vectors import add_product
from tests.matching.learning.test_heads import PRODUCTS, VIEWS, photographs

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _jobs_use_this_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the processes of jobs open the database of the test."""
    values = connection.settings_dict
    url = f"sqlite:///{values['NAME']}"
    if connection.vendor == "postgresql":
        host = f"{values['USER']}:{values['PASSWORD']}@{values['HOST']}:{values['PORT']}"
        url = f"postgres://{host}/{values['NAME']}"
    monkeypatch.setenv("DATABASE_URL", url)
    yield
    wait_for_jobs()


@pytest.fixture
def catalogue() -> list[Product]:
    """Create products of four views, and a new product with a fifth view of each of the first five."""
    views = photographs()
    products = [add_product(*of_one[:VIEWS]) for of_one in views]
    for of_one in views[:5]:
        add_product(of_one[VIEWS], historical=False)
    return products


def job_of(address: str) -> ModelJob:
    wait_for_jobs()
    return ModelJob.objects.get(pk=address.rstrip("/").rsplit("/", 1)[1])


def learned() -> str:
    """Learn a head by the command. Return its name."""
    assert run("train_head").code == 0
    return ModelVersion.objects.get().name


def test_head_is_learned_by_the_button_in_the_background(catalogue: list[Product]) -> None:
    browser = browser_of("manager")
    response = browser.post("/admin/models/train/")
    job = job_of(response.headers["Location"])
    assert (job.state, job.error, job.done) == ("done", "", PRODUCTS)
    version = ModelVersion.objects.get().name
    assert job.report["version"] == version
    assert version in browser.get(response.headers["Location"]).text
    assert "It waits in the shadow" in browser.get(response.headers["Location"]).text
    assert not ModelSwitch.objects.exists()
    page = browser.get("/admin/models/").text
    assert version in page
    assert "in the shadow" in page


def test_comparison_shows_the_images_of_gained_and_lost_pairs(catalogue: list[Product]) -> None:
    version = learned()
    browser = browser_of("manager")
    response = browser.post("/admin/models/compare/", {"a": "encoder", "b": version})
    job = job_of(response.headers["Location"])
    assert (job.state, job.error) == ("done", "")
    page = browser.get(response.headers["Location"]).text
    assert f"{version} is better." in page
    assert f"Only {version} finds these first." in page
    assert page.count('class="cm-triple"') == min(24, job.report["sets"][0]["gained"]) + min(
        24, job.report["sets"][0]["lost"]
    )
    assert "in a comparison" in browser.get("/admin/models/").text


def test_switch_says_what_will_change_before_it_does(catalogue: list[Product]) -> None:
    version = learned()
    new = Product.objects.filter(is_historical=False).order_by("pk").first()
    assert new is not None
    match = Match.objects.create(
        product=new, candidate=catalogue[0], similarity_score=60, feature_type="legacy", model_name="legacy-1", rank=1
    )
    verdicts.set_verdict(match.pk, "confirmed", user_in("reviewer"), "")
    browser = browser_of("manager")
    page = browser.get("/admin/models/switch/", {"version": version}).text
    assert "4 new products without a confirmed match are searched again" in page
    assert "1 decision stays as it is." in page
    assert not ModelSwitch.objects.exists()
    response = browser.post("/admin/models/switch/", {"version": version, "current": "encoder"}, follow=True)
    assert f"{version} answers now." in response.text
    switched = ModelSwitch.objects.get()
    assert (switched.version, switched.switched_by) == (version, user_in("manager"))
    assert Product.objects.filter(unmatched_since__isnull=False).count() == 4


def test_roll_back_is_offered_after_a_switch(catalogue: list[Product]) -> None:
    version = learned()
    browser = browser_of("manager")
    assert "Roll back" not in browser.get("/admin/models/").text
    browser.post("/admin/models/switch/", {"version": version, "current": "encoder"})
    assert "Roll back to legacy-1" in browser.get("/admin/models/").text
    assert "Roll back?" in browser.get("/admin/models/switch/", {"version": "encoder"}).text
    browser.post("/admin/models/switch/", {"version": "encoder", "current": version})
    assert ModelSwitch.objects.order_by("-pk").values_list("version", flat=True)[0] == ""


def test_switch_is_refused_if_another_version_answers_by_now(catalogue: list[Product]) -> None:
    version = learned()
    assert run("switch_model", version).code == 0
    response = browser_of("manager").post("/admin/models/switch/", {"version": version, "current": "encoder"})
    assert "Nothing was changed" in response.text
    assert ModelSwitch.objects.count() == 1


@pytest.mark.parametrize(
    ("address", "form", "text"),
    [
        ("compare/", {"a": "encoder", "b": "head-none"}, "There is no version"),
        ("compare/", {}, "There is no version"),
        ("compare/", {"a": "encoder", "b": "legacy-1"}, "are the same version"),
        ("switch/", {"version": "head-none"}, "There is no version"),
        ("download/", {}, "Type the name of a model on the hub"),
        ("download/", {"name": "a" * 201}, "Type the name of a model on the hub"),
        ("download/", {"name": "/srv/models/clip"}, "is a local model"),
    ],
)
def test_bad_input_is_one_sentence(catalogue: list[Product], address: str, form: dict[str, str], text: str) -> None:
    response = browser_of("manager").post(f"/admin/models/{address}", form, follow=True)
    assert text in response.text
    assert not ModelJob.objects.exists()
    assert not ModelSwitch.objects.exists()


def test_too_little_to_learn_from_is_said_on_the_page(catalogue: list[Product]) -> None:
    Product.objects.filter(pk__in=[product.pk for product in catalogue[5:]]).delete()
    job = ModelJob.objects.create(kind="train", user=user_in("manager"), options={"adopt": False})
    assert run("run_model_job", job.pk).code == 0
    assert "have two images or more" in browser_of("manager").get(f"/admin/models/jobs/{job.pk}/").text


def test_one_job_runs_at_a_time_and_can_be_stopped_and_continued(catalogue: list[Product]) -> None:
    running = ModelJob.objects.create(kind="train", user=user_in("manager"), options={"adopt": False})
    browser = browser_of("manager")
    response = browser.post("/admin/models/train/", follow=True)
    assert "Another job runs" in response.text
    assert ModelJob.objects.count() == 1
    browser.post(f"/admin/models/jobs/{running.pk}/run/")  # it is not stale
    assert ModelJob.objects.get().token == running.token
    assert "Stopped." in browser.post(f"/admin/models/jobs/{running.pk}/stop/", follow=True).text
    running.state = "running"
    model_jobs.run(running)  # its process notices that it was stopped
    assert ModelJob.objects.get().state == "stopped"


def test_job_whose_process_stopped_is_done_again(catalogue: list[Product], settings: Settings) -> None:
    job = ModelJob.objects.create(kind="train", user=user_in("manager"), options={"adopt": False})
    ModelJob.objects.update(heartbeat_at="2020-01-01T00:00:00Z")
    browser = browser_of("manager")
    assert "has stopped" in browser.get(f"/admin/models/jobs/{job.pk}/").text
    browser.post(f"/admin/models/jobs/{job.pk}/run/")
    wait_for_jobs()
    assert ModelJob.objects.get().state == "done"


def test_crash_of_the_process_is_said_on_the_page(
    catalogue: list[Product], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'nothing' / 'here.sqlite3'}")
    browser = browser_of("manager")
    response = browser.post("/admin/models/train/")
    assert job_of(response.headers["Location"]).state == "failed"
    assert "ended unexpectedly" in browser.get(response.headers["Location"]).text


@pytest.mark.parametrize("role", ["viewer", "uploader", "reviewer"])
def test_only_managers_see_and_change_models(catalogue: list[Product], role: str) -> None:
    browser = browser_of(role)
    assert "/admin/models/" not in browser.get("/admin/").text
    assert browser.get("/admin/models/").status_code == 403
    for page in ("train/", "compare/", "switch/", "download/", "measure/"):
        assert browser.post(f"/admin/models/{page}", {"version": "encoder"}).status_code == 403
    assert not ModelJob.objects.exists()


def downloads_to(monkeypatch: pytest.MonkeyPatch, cache: Path, hub: str) -> None:
    """Let the processes of jobs use this hub and this folder."""
    values = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "CLIP_CACHE_DIR": str(cache), "HF_HUB_DISABLE_XET": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_model_is_downloaded_by_the_button(tiny_clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    browser = browser_of("manager")
    with running_hub(tiny_clip, "sentence-transformers/clip-ViT-B-32") as hub:
        downloads_to(monkeypatch, tmp_path / "cache", hub)
        response = browser.post("/admin/models/download/", {"name": " clip-ViT-B-32 "})
        job = job_of(response.headers["Location"])
    assert (job.state, job.error) == ("done", "")
    assert (job.report["model"], job.report["dimensions"]) == ("clip-ViT-B-32", 512)
    assert "clip-ViT-B-32 is on this machine and complete" in browser.get(response.headers["Location"]).text
    assert "download a model" in browser.get("/admin/models/").text


def test_download_is_refused_with_the_reason_where_no_hub_is_reachable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    downloads_to(monkeypatch, tmp_path / "cache", "http://127.0.0.1:9")  # where nothing listens
    browser = browser_of("manager")
    response = browser.post("/admin/models/download/", {"name": "facebook/dinov2-small"})
    assert job_of(response.headers["Location"]).state == "failed"
    assert "The model hub cannot be reached" in browser.get(response.headers["Location"]).text


def test_page_and_command_show_what_each_encoder_costs_and_reaches(
    catalogue: list[Product], with_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIP_MODEL", str(with_clip))
    browser = browser_of("manager")
    response = browser.post("/admin/models/measure/")
    job = job_of(response.headers["Location"])
    assert (job.state, job.error) == ("done", "")
    [row] = job.report["encoders"]
    assert row["dimensions"] == 512
    assert row["recall_1"] is None  # it has embedded nothing yet
    assert row["name"] in browser.get(response.headers["Location"]).text


def test_measured_recall_and_speed_are_listed(photographs_with_clip: str) -> None:
    done = run("list_models", "--measure")
    assert done.code == 0, done.err
    [line] = [line for line in done.out.splitlines() if line.startswith(photographs_with_clip)]
    assert "images/s" in line
    assert "recall@1" in line
    page = browser_of("manager").get("/admin/models/").text
    assert "images/s" in page
    assert "when the encoders were measured" in page


@pytest.fixture
def photographs_with_clip(with_clip: Path) -> str:
    """Store three images of each of six products, embedded with the small CLIP. Return its name."""
    for seed in range(6):
        uploads = [Upload(jpeg(seed, angle=angle), f"{angle}.jpg") for angle in (0, 5, 10)]
        add_stored(uploads, name=f"product {seed}", is_historical=True)
    embed_pending()
    return str(Feature.objects.filter(kind="clip").values_list("model_name", flat=True)[0])
