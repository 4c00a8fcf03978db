"""The write lock of SQLite: threads of a process queue for it, and processes retry until a timeout."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from django.db import DataError, OperationalError, connection, transaction

from products.models import Product
from tests.helpers.threads import run_concurrently

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'sqlite'", reason="SQLite allows one writer"),
]


def in_a_thread(function):
    """Return what ``work`` returns or raises on a connection of its own."""
    [result] = run_concurrently(function)
    return result


def write() -> int:
    with transaction.atomic():
        return Product.objects.create(name="written").pk


def test_transaction_waits_for_the_previous_one():
    entered, order = threading.Event(), []

    def second():
        entered.wait(10)
        write()
        order.append("second")

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            waiting = pool.submit(lambda: in_a_thread(second))
            Product.objects.create(name="first")
            entered.set()
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            order.append("first")
        waiting.result(timeout=30)
    assert order == ["first", "second"]
    assert Product.objects.count() == 2


@pytest.mark.parametrize("ending", ["an error", "a rollback", "a closed connection"])
def test_write_lock_is_released_at_the_end_of_the_transaction(ending):
    def end():
        with transaction.atomic():
            Product.objects.create(name="lost")
            if ending == "an error":
                raise ValueError(ending)
            if ending == "a rollback":
                transaction.set_rollback(True)
            else:
                connection.close()

    if ending == "an error":
        with pytest.raises(ValueError, match=ending):
            in_a_thread(end)
    else:
        in_a_thread(end)
    in_a_thread(write)
    assert list(Product.objects.values_list("name", flat=True)) == ["written"]


def test_waiting_longer_than_the_timeout_raises_an_error():
    def impatient():
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": {"timeout": 0.1}}
        write()

    with transaction.atomic(), pytest.raises(OperationalError, match="database is locked"):
        in_a_thread(impatient)
    in_a_thread(write)
    assert Product.objects.count() == 1


def test_savepoint_needs_no_second_write_lock():
    with transaction.atomic():
        write()
    assert Product.objects.count() == 1


@pytest.fixture
def another_process():
    """Hold the lock like another process: on a connection outside this process's queue."""
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
        yield other


def test_single_statement_waits_for_another_process(another_process):
    another_process.execute("BEGIN IMMEDIATE")

    def rename():
        return Product.objects.update(name="changed")

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: in_a_thread(rename))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.3)
        another_process.execute("COMMIT")
        assert waiting.result(timeout=30) == 0


def test_waiting_too_long_for_another_process_raises_an_error(another_process):
    another_process.execute("BEGIN IMMEDIATE")

    def impatient():
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": {"timeout": 0.1}}
        Product.objects.create(name="too late")

    with pytest.raises(OperationalError, match="database is locked"):
        in_a_thread(impatient)
    another_process.execute("ROLLBACK")
    in_a_thread(write)
    assert [product.name for product in Product.objects.all()] == ["written"]


def test_value_that_sqlite_cannot_use_is_a_data_error_and_no_outage():
    Product.objects.create(name="there")
    for products in (
        Product.objects.filter(pk__in=[2**63, 1]),
        Product.objects.filter(name__icontains="x" * 60_000),
    ):
        with pytest.raises(DataError):
            products.count()
    with connection.cursor() as cursor, pytest.raises(DataError):
        cursor.execute("SELECT " + " + ".join(["1"] * 2000))
