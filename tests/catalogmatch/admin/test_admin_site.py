"""The admin site: sign-in and its limit, home page, device page, users and roles."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from gpu.models import EmbeddingWorker
from matching.models import Decision, Match
from products import requeue
from products.models import EmbeddingDay, ProductImage
from products.queue import claims
from tests.helpers.accounts import user_in
from tests.helpers.rows import browser_of, make_case, make_product

pytestmark = pytest.mark.django_db

LOGIN = "/admin/login/"
LIMIT = 5  # sign-in attempts a minute from one address


def sign_in(client: Client, password: str, **extra: Any) -> Any:
    return client.post(LOGIN, {"username": "viewer", "password": password}, **extra)


@pytest.fixture
def viewer() -> User:
    user = user_in("viewer")
    user.set_password("right")
    user.save()
    return user


@pytest.mark.usefixtures("viewer")
def test_too_many_sign_in_attempts_are_rejected_even_with_the_right_password() -> None:
    for _ in range(LIMIT):
        assert sign_in(Client(), "wrong").status_code == 200
    response = sign_in(Client(), "right")
    assert response.status_code == 429
    assert "Too many attempts. Try again in" in response.content.decode()
    assert 1 <= int(response["Retry-After"]) <= 60
    assert "_auth_user_id" not in response.wsgi_request.session


@pytest.mark.usefixtures("viewer")
def test_attempt_with_the_right_password_counts_too() -> None:
    for _ in range(LIMIT):
        assert sign_in(Client(), "right").status_code == 302
    assert sign_in(Client(), "right").status_code == 429


@pytest.mark.usefixtures("viewer")
def test_other_addresses_may_sign_in_and_a_forged_header_does_not_help() -> None:
    for _ in range(LIMIT):
        sign_in(Client(), "wrong")
    assert sign_in(Client(), "right", headers={"X-Forwarded-For": "10.1.1.1"}).status_code == 429
    assert sign_in(Client(), "right", REMOTE_ADDR="10.0.0.2").status_code == 302


@pytest.mark.usefixtures("viewer")
def test_opening_the_sign_in_page_is_not_counted() -> None:
    for _ in range(LIMIT + 1):
        assert Client().get(LOGIN).status_code == 200
    assert sign_in(Client(), "right").status_code == 302


@pytest.mark.parametrize(
    ("role", "entries", "hidden"),
    [
        ("viewer", {"Review", "Products", "Device and model"}, {"Upload", "Users", "Roles"}),
        ("uploader", {"Upload", "Products"}, {"Users"}),
        ("reviewer", {"Review"}, {"Upload", "Users"}),
        ("manager", {"Upload", "Review", "Users", "Roles"}, set()),
    ],
)
def test_sidebar_shows_only_what_the_role_may_see(role: str, entries: set[str], hidden: set[str]) -> None:
    groups = browser_of(role).get("/admin/").context["sidebar_navigation"]
    shown = {str(item["title"]) for group in groups for item in group["items"] if item["has_permission"]}
    assert entries <= shown
    assert not hidden & shown


def test_home_counts_the_pending_work() -> None:
    make_case(95, 85, 60)
    make_product("failed", "pending", "claimed", is_historical=True)
    page = browser_of("reviewer").get("/admin/")
    assert page.context["waiting_count"] == 1  # a case, with three matches
    assert {item["band"].label: item["count"] for item in page.context["bands"]}["90–100"] == 1
    assert page.context["catalogue_count"] == 4
    assert page.context["queue"]["failed"] == page.context["queue"]["pending"] == page.context["queue"]["claimed"] == 1
    [arrival] = page.context["newest_products"]
    assert arrival.best[0].candidate.name == "candidate 95"
    assert "/admin/matching/match/case/?score=90" in page.content.decode()


@pytest.mark.parametrize("count", [2, 20])
def test_home_needs_the_same_number_of_queries_for_any_number_of_products(
    count: int, django_assert_max_num_queries: Any
) -> None:
    for _ in range(count):
        make_case(95, 60)
    browser = browser_of("manager")
    with django_assert_max_num_queries(26):
        assert browser.get("/admin/").status_code == 200


def test_device_page_shows_device_model_workers_and_last_errors() -> None:
    now = timezone.now()
    EmbeddingWorker.objects.create(
        name="host:1", started_at=now, heartbeat_at=now, device="cuda", gpu_name="A fine GPU", vram_gb=24.0,
        device_reason="the GPU was asked for", clip_available=True, model_name="clip-ViT-B-32", rates=[100.0, 200.0],
    )  # fmt: skip
    make_product("failed", name="broken mug")
    page = browser_of("viewer").get("/admin/device/").content.decode()
    for shown in (
        "A fine GPU", "the GPU was asked for", "24.0 GB", "100-200 images/s", "host:1", "clip-ViT-B-32",
        "broken mug", "The file is damaged. (image_corrupt)", "manage.py download_model",
    ):  # fmt: skip
        assert shown in page


def test_device_page_without_workers_shows_this_process() -> None:
    page = browser_of("viewer").get("/admin/device/").content.decode()
    assert "No worker has reported." in page
    assert "Embed all again" not in page


def test_htmx_request_returns_only_the_live_part() -> None:
    page = browser_of("viewer").get("/admin/device/", headers={"HX-Request": "true"}).content.decode()
    assert "Queue" in page
    assert "<html" not in page


@pytest.mark.parametrize(("which", "queued"), [("failed", 1), ("all", 2), ("nonsense", 0)])
def test_users_with_permission_queue_images_again(which: str, queued: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("products.tasks.notify_workers", lambda *_: True)  # so that what is queued can be counted
    make_product("failed", "ready")
    assert browser_of("reviewer").post("/admin/device/requeue/", {"which": which}).status_code == 403
    response = browser_of("uploader").post("/admin/device/requeue/", {"which": which})
    assert response.status_code == (302 if queued else 400)
    assert ProductImage.objects.filter(state="pending").count() == queued


def test_single_failed_image_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("products.tasks.notify_workers", lambda *_: True)
    first, other = (make_product("failed").images.get() for _ in range(2))
    form = {"which": "failed", "image": first.pk}
    assert browser_of("uploader").post("/admin/device/requeue/", form).status_code == 302
    first.refresh_from_db()
    other.refresh_from_db()
    assert (first.state, other.state) == ("pending", "failed")
    assert browser_of("uploader").post("/admin/device/requeue/", form | {"image": "x"}).status_code == 400


@pytest.mark.parametrize("form", [{"which": "all"}, {"paused": "0"}], ids=["embed all again", "resume"])
def test_without_workers_the_page_does_not_wait_for_many_images(
    form: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requeue, "INLINE_LIMIT", 1)
    make_product("pending", "pending")
    page = "/admin/device/pause/" if "paused" in form else "/admin/device/requeue/"
    page_text = browser_of("uploader").post(page, form, follow=True).content.decode()
    assert "No worker is running" in page_text
    assert set(ProductImage.objects.values_list("state", "attempts")) == {("pending", 0)}


def test_users_with_permission_pause_and_resume_the_queue() -> None:
    assert browser_of("reviewer").post("/admin/device/pause/", {"paused": "1"}).status_code == 403
    assert browser_of("uploader").post("/admin/device/pause/", {"paused": "please"}).status_code == 400
    assert not claims.is_paused()
    browser_of("uploader").post("/admin/device/pause/", {"paused": "1"})
    for page in ("/admin/", "/admin/device/"):
        assert "uploader paused the queue" in browser_of("viewer").get(page).content.decode()
    browser_of("manager").post("/admin/device/pause/", {"paused": "0"})
    assert not claims.is_paused()
    assert "paused the queue" not in browser_of("viewer").get("/admin/").content.decode()


def test_home_counts_the_work_of_the_last_thirty_days() -> None:
    today = timezone.localdate()
    for ago, images in ((0, 3), (29, 5), (30, 100)):
        EmbeddingDay.objects.create(day=today - timedelta(days=ago), pictures=images)
    for ago in (0, 29, 31):
        product, [match] = make_case(95)
        at = timezone.now() - timedelta(days=ago)
        Match.objects.filter(pk=match.pk).update(review_status="confirmed", reviewed_at=at)
        Decision.objects.create(product=product, kind="same", candidates=[match.candidate_id], decided_at=at)
    embedded, judged = browser_of("viewer").get("/admin/").context["activities"]
    assert (len(embedded.chart.bars), embedded.chart.total, embedded.chart.top) == (30, 8, 5)
    assert [bar.value for bar in embedded.chart.bars][::29] == [5, 3]
    assert [(bar.day, bar.value) for bar in judged.chart.bars if bar.value] == [
        (today - timedelta(days=29), 1),
        (today, 1),
    ]
    page = browser_of("viewer").get("/admin/matching/match/?judged=month")
    assert len(page.context["cl"].result_list) == judged.chart.total


@pytest.mark.parametrize(
    ("waiting", "words"), [(30, "About 3 seconds left"), (3600, "About 6\xa0minutes left"), (10, "About 1 second left")]
)
def test_home_shows_how_long_the_queue_needs(waiting: int, words: str) -> None:
    now = timezone.now()
    EmbeddingWorker.objects.create(name="host:1", started_at=now, heartbeat_at=now, device="cpu", rates=[10.0])
    product = make_product()
    ProductImage.objects.bulk_create(
        ProductImage(product=product, file=f"{n}.jpg", sha256=f"{n:064}", width=9, height=9, state="pending")
        for n in range(waiting)
    )
    assert f"{words} at 10.0 images/s" in browser_of("viewer").get("/admin/").content.decode()


def test_every_page_needs_a_signed_in_user() -> None:
    product, [match] = make_case(80)
    for path in (
        "", "device/", "ask/", "products/product/", "products/product/add/", f"products/product/{product.pk}/change/",
        "matching/match/", "matching/match/case/", f"matching/match/case/{product.pk}/", "auth/user/",
    ):  # fmt: skip
        response = Client().get(f"/admin/{path}")
        assert response.status_code == 302, path
        assert response["Location"].startswith(LOGIN)
    for path in (f"matching/match/{match.pk}/verdict/", f"products/product/{product.pk}/match/", "device/requeue/"):
        assert Client().post(f"/admin/{path}")["Location"].startswith(LOGIN)


def test_manager_adds_a_user_and_gives_a_role() -> None:
    role = Group.objects.get(name="reviewer")
    form = {"username": "new", "usable_password": "true", "password1": "long-and-odd-1", "password2": "long-and-odd-1"}
    browser_of("manager").post("/admin/auth/user/add/", form | {"groups": [role.pk]})
    user = User.objects.get(username="new")
    assert user.is_staff
    assert not user.is_superuser
    assert list(user.groups.all()) == [role]
    assert Client().post(LOGIN, {"username": "new", "password": "long-and-odd-1"}).status_code == 302


def test_manager_cannot_become_or_take_over_a_superuser() -> None:
    superuser = User.objects.create_superuser("boss", password="first")
    browser, me = browser_of("manager"), user_in("manager")
    form = {"username": me.username, "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    assert browser.post(f"/admin/auth/user/{me.pk}/change/", form).status_code == 302
    me.refresh_from_db()
    assert not me.is_superuser
    assert browser.post(f"/admin/auth/user/{superuser.pk}/change/", form | {"username": "boss"}).status_code == 403
    passwords = {"usable_password": "true", "password1": "long-and-odd-1", "password2": "long-and-odd-1"}
    assert browser.post(f"/admin/auth/user/{superuser.pk}/password/", passwords).status_code == 403
    superuser.refresh_from_db()
    assert superuser.check_password("first")
