"""Rows of an import may name images by addresses, which are fetched as part of the queue."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from products.downloads import queue
from products.models import ImageDownload, Product, ProductImage
from products.queue import claims
from tests.helpers.accounts import user_in
from tests.helpers.commands import run
from tests.helpers.jobs import wait_for_jobs
from tests.helpers.processes import Stack, wait_until
from tests.helpers.rows import browser_of, make_product
from tests.helpers.sample_images import jpeg
from tests.helpers.tables import rows_as_csv, write_csv
from tests.helpers.web.image_server import ImageServer, image_server
from tests.helpers.web.import_page import IMPORT, ImportPage, zipped


@pytest.fixture
def server(settings: Settings) -> Iterator[ImageServer]:
    with image_server() as running:
        settings.FETCH_PRIVATE_HOSTS = [running.host]
        settings.FETCH_SECONDS = 2
        settings.FETCH_PAUSES = [0.05, 0.1, 0.2]
        yield running


def rows_of(addresses: Iterable[str]) -> list[dict[str, str]]:
    return [{"sku": f"S{n}", "name": f"Number {n}", "image": address} for n, address in enumerate(addresses)]


@pytest.mark.django_db
def test_images_at_addresses_become_products(server: ImageServer, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "c.csv", rows_of(server.url(f"/ok/{n}.jpg") for n in range(5)))
    ran = run("import_products", table, "--historical")
    assert ran.code == 0, ran.err
    assert "5 products added, 0 images added, 0 already there, 0 refused" in ran.out
    assert set(Product.objects.values_list("sku", "name", "is_historical")) == {
        (f"S{n}", f"Number {n}", True) for n in range(5)
    }
    assert set(ProductImage.objects.values_list("state", flat=True)) == {"ready"}
    assert ProductImage.objects.get(product__sku="S3").original_name == "3.jpg"


@pytest.mark.django_db
def test_second_import_of_the_same_feed_fetches_nothing_again(server: ImageServer, tmp_path: Path) -> None:
    paths = ["/ok/1.jpg", "/ok/2.jpg", "/plain/3.jpg"]
    table = write_csv(tmp_path / "c.csv", rows_of(map(server.url, paths)))
    run("import_products", table)
    again = run("import_products", table)
    assert again.code == 0
    assert "0 products added, 0 images added, 3 already there, 0 refused" in again.out
    assert server.bodies() == 3
    # A server that gives no ETag is not asked again on the same day.
    assert server.seen == {"/ok/1.jpg": 2, "/ok/2.jpg": 2, "/plain/3.jpg": 1}


@pytest.mark.django_db
def test_deleted_product_gets_its_image_again(server: ImageServer, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "c.csv", rows_of([server.url("/ok/1.jpg")]))
    run("import_products", table)
    Product.objects.all().delete()
    assert "1 products added" in run("import_products", table).out


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/missing.jpg", "http_error"),
        ("/html/1.jpg", "not_an_image"),
        ("/disguised/1.jpg", "not_an_image"),
        ("/short/1.jpg", "connection_lost"),
        ("/cut/1.jpg", "image_corrupt"),
        ("/huge/1.jpg", "image_too_large"),
        ("/stall/1.jpg", "fetch_timeout"),
    ],
)
def test_image_that_cannot_be_fetched_is_a_row_with_its_reason(
    server: ImageServer, settings: Settings, tmp_path: Path, path: str, code: str
) -> None:
    settings.FETCH_SECONDS = 1
    settings.FETCH_PAUSES = [0.05]
    ran = run("import_products", write_csv(tmp_path / "c.csv", rows_of(map(server.url, ["/ok/1.jpg", path]))))
    assert ran.code == 3
    assert f"row 3 (S1): {code}: " in ran.err
    assert list(Product.objects.values_list("sku", flat=True)) == ["S0"]


@pytest.mark.django_db
def test_passing_failures_are_tried_again(server: ImageServer, tmp_path: Path) -> None:
    ran = run("import_products", write_csv(tmp_path / "c.csv", rows_of([server.url("/flaky/1.jpg")])))
    assert ran.code == 0
    assert server.sent == {("/flaky/1.jpg", 503): 2, ("/flaky/1.jpg", 200): 1}


@pytest.mark.django_db
def test_server_in_the_own_network_is_not_asked(server: ImageServer, settings: Settings, tmp_path: Path) -> None:
    settings.FETCH_PRIVATE_HOSTS = []
    ran = run("import_products", write_csv(tmp_path / "c.csv", rows_of([server.url("/ok/1.jpg")])))
    assert ran.code == 1
    assert "row 2 (S0): address_refused: The address leads to 127.0.0.1" in ran.err
    assert not server.seen


@pytest.mark.django_db
def test_dry_run_fetches_nothing(server: ImageServer, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "c.csv", rows_of([server.url("/ok/1.jpg"), "http://"]))
    ran = run("import_products", table, "--dry-run")
    assert "1 images to fetch" in ran.out
    assert "row 3 (S1): address_invalid" in ran.err
    assert not server.seen
    assert not ImageDownload.objects.exists()


@pytest.mark.django_db
def test_further_rows_add_their_images_in_the_order_of_the_table(server: ImageServer, tmp_path: Path) -> None:
    paths = ["/slow/1.jpg", "/ok/2.jpg", "/missing.jpg", "/ok/3.jpg"]
    rows = [{"sku": "A", "image": server.url(path)} for path in paths]
    ran = run("import_products", write_csv(tmp_path / "c.csv", rows))
    assert "1 products added, 2 images added, 0 already there, 1 refused" in ran.out
    images = Product.objects.get().images.order_by("position")
    assert [image.original_name for image in images] == ["1.jpg", "2.jpg", "3.jpg"]


@pytest.mark.django_db
def test_only_a_few_are_fetched_from_a_host_at_once(server: ImageServer, settings: Settings, tmp_path: Path) -> None:
    settings.FETCHES_PER_HOST = 2
    run("import_products", write_csv(tmp_path / "c.csv", rows_of(server.url(f"/slow/{n}.jpg") for n in range(12))))
    assert Product.objects.count() == 12
    assert server.at_once == 2


@pytest.mark.django_db
def test_feed_with_a_dead_address_in_ten_ends_with_all_others_in(server: ImageServer, tmp_path: Path) -> None:
    """Dead in four ways: no such file, a web page, a host that refuses, and one that is unknown."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{unused.getsockname()[1]}/a.jpg"
        dead = [server.url("/missing.jpg"), server.url("/html/1.jpg"), gone, "http://nowhere.invalid/a.jpg"]
        addresses = [dead[n // 10 % 4] if n % 10 == 9 else server.url(f"/ok/{n}.jpg") for n in range(120)]
        ran = run("import_products", write_csv(tmp_path / "c.csv", rows_of(addresses)))
    assert ran.code == 3
    assert "108 products added, 0 images added, 0 already there, 12 refused" in ran.out
    refused = [line for line in ran.err.splitlines() if line.startswith("row ")]
    assert sorted(int(line.split()[1]) for line in refused) == [n + 2 for n in range(120) if n % 10 == 9]
    assert not ImageDownload.objects.exclude(state="failed").exists()


@pytest.mark.django_db
def test_addresses_of_a_host_that_is_away_are_not_all_waited_for(
    server: ImageServer, settings: Settings, tmp_path: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings.FETCH_PRIVATE_HOSTS = ["127.0.0.1"]
        settings.FETCH_PAUSES = [0.3]
        settings.FETCHES_PER_HOST = 1
        port = unused.getsockname()[1]
        table = write_csv(tmp_path / "c.csv", rows_of(f"http://127.0.0.1:{port}/{n}.jpg" for n in range(200)))
        ran = run("import_products", table)
    assert ran.code == 1
    assert ran.err.count("host_unreachable") == 200
    assert "so the others were not tried" in ran.err


@pytest.mark.django_db
def test_stopped_import_fetches_the_rest_when_it_runs_again(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_csv(tmp_path / "c.csv", rows_of(server.url(f"/ok/{n}.jpg") for n in range(40)))
    finish, finished = queue.finish, []

    def interrupt(download: ImageDownload, outcome: str) -> None:
        finish(download, outcome)
        finished.append(outcome)
        if len(finished) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(queue, "finish", interrupt)
    assert run("import_products", table).code == 130
    monkeypatch.undo()
    assert 0 < Product.objects.count() < 40
    assert not ImageDownload.objects.filter(state="claimed").exists()
    ran = run("import_products", table)
    assert ran.code == 0
    assert Product.objects.count() == 40


@pytest.mark.django_db
def test_images_of_a_worker_that_died_are_fetched_again(server: ImageServer, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "c.csv", rows_of([server.url("/ok/1.jpg")]))
    user = user_in("manager")
    claims.set_paused(True, user)
    assert "The queue is paused" in run("import_products", table).out
    claims.set_paused(False, user)
    [claimed] = queue.claim(1)
    ImageDownload.objects.update(claimed_at=claimed.created_at.replace(year=2020))
    assert run("import_products", table).code == 0
    assert Product.objects.get().images.count() == 1


@pytest.mark.django_db
def test_files_beside_the_table_are_taken_by_the_end_of_the_address(server: ImageServer, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "blue mug.jpg").write_bytes(jpeg(1))
    addresses = ["https://cdn.example.com/a/blue%20mug.jpg?v=3", server.url("/ok/2.jpg")]
    ran = run("import_products", write_csv(tmp_path / "c.csv", rows_of(addresses)))
    assert "2 products added" in ran.out
    assert server.seen == {"/ok/2.jpg": 1}


@pytest.mark.django_db
def test_file_stands_for_one_address_only(server: ImageServer, tmp_path: Path) -> None:
    (tmp_path / "main.jpg").write_bytes(jpeg(50))
    addresses = [server.url("/ok/1/main.jpg"), server.url("/ok/2/main.jpg")]
    run("import_products", write_csv(tmp_path / "c.csv", rows_of(addresses)))
    assert server.seen == {"/ok/2/main.jpg": 1}
    assert Product.objects.count() == 2


@pytest.mark.django_db
def test_row_without_sku_cannot_name_an_address(server: ImageServer, tmp_path: Path) -> None:
    rows = [{"sku": "", "name": "Mug", "image": server.url("/ok/1.jpg")}]
    ran = run("import_products", write_csv(tmp_path / "c.csv", rows))
    assert "needs a row with a SKU" in ran.err
    assert not server.seen


@pytest.mark.django_db(transaction=True)
def test_page_imports_addresses_names_what_failed_and_tries_it_again(server: ImageServer) -> None:
    make_product(sku="S0", name="Old name")
    rows = rows_of(map(server.url, ["/ok/1.jpg", "/ok/2.jpg", "/late/3.jpg"]))
    upload = ImportPage(browser_of("uploader"), {"list.csv": rows_as_csv(rows)})
    assert upload.counts() == {"UPDATED": 1, "TO_FETCH": 2}
    assert not server.seen
    upload.confirm()
    assert upload.counts() == {"UPDATED": 1, "IMAGE_ADDED": 1, "CREATED": 1, "REJECTED": 1}
    assert [row["row"] for row in upload.context("CREATED")["rows"]] == [3]
    assert "404" in upload.reasons()[4]
    [refused] = upload.rejected_rows()
    assert (refused["(row)"], refused["sku"], refused["image"]) == ("4", "S2", server.url("/late/3.jpg"))
    entry = Product.history.get(sku="S1", history_type="+")
    assert entry.history_user.username == "uploader"

    server.RequestHandlerClass.do_late = server.RequestHandlerClass.do_ok  # type: ignore[attr-defined]
    upload.fetch_again()
    assert upload.counts() == {"UPDATED": 1, "IMAGE_ADDED": 1, "CREATED": 2}
    assert Product.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_fetched_images_are_taken_back_with_their_import(server: ImageServer) -> None:
    rows = rows_of(map(server.url, ["/ok/1.jpg", "/missing.jpg"]))
    upload = ImportPage(browser_of("uploader"), {"list.csv": rows_as_csv(rows)}).confirm()
    assert Product.objects.count() == 1
    upload.undo()
    assert not Product.objects.exists()
    assert not ImageDownload.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_page_takes_the_images_of_the_zip_for_addresses() -> None:
    rows = rows_of(["https://cdn.example.com/x/a.jpg?v=3", "https://cdn.example.com/x/blue%20mug.jpg"])
    files: dict[str, bytes | str] = {
        "l.csv": rows_as_csv(rows),
        "images.zip": zipped({"a.jpg": jpeg(1), "in/blue mug.jpg": jpeg(2)}),
    }
    upload = ImportPage(browser_of("uploader"), files)
    assert upload.counts() == {"CREATED": 2}
    upload.confirm()
    assert Product.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_import_page_tries_the_images_of_commands_again(server: ImageServer, tmp_path: Path) -> None:
    run("import_products", write_csv(tmp_path / "c.csv", rows_of([server.url("/soon/1.jpg")])))
    browser = browser_of("uploader")
    assert "1 image of an earlier import could not be fetched" in browser.get(IMPORT).content.decode()
    server.RequestHandlerClass.do_soon = server.RequestHandlerClass.do_ok  # type: ignore[attr-defined]
    browser.post(f"{IMPORT}fetch/")
    wait_for_jobs()
    assert Product.objects.get().sku == "S0"
    assert "could not be fetched" not in browser.get(IMPORT).content.decode()


@pytest.mark.redis
@pytest.mark.timeout(120)
def test_workers_fetch_the_images_and_embed_them(tmp_path: Path) -> None:
    with image_server() as server, Stack(tmp_path, CATALOGMATCH_FETCH_PRIVATE_HOSTS=server.host) as stack:
        addresses = [server.url(f"/ok/{n}.jpg") for n in range(20)] + [server.url("/missing.jpg")]
        output = stack.manage("import_products", str(write_csv(tmp_path / "c.csv", rows_of(addresses))))
        assert "The workers fetch 21 images from their addresses." in output
        assert not server.seen
        stack.start_worker()
        ready = "SELECT count(*) FROM product_images WHERE state = 'ready'"
        wait_until(lambda: stack.rows(ready) == [(20,)], 60, "all images are fetched and ready")
        assert stack.rows("SELECT sku, state, error_code FROM image_downloads") == [("S20", "failed", "http_error")]
