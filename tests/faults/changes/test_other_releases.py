"""Web and worker of different releases: messages with arguments and names that the other side does not know."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from tests.faults.integrity import assert_intact, wait_until_idle
from tests.helpers.processes import Stack, wait_until
from tests.helpers.sample_images import jpeg

pytestmark = [pytest.mark.faults, pytest.mark.redis, pytest.mark.timeout(300)]

# What an older or newer release might send: arguments too many, too few, renamed or of other types.
CALLS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("products.tasks.embed", [[1], "urgent"], {}),
    ("products.tasks.embed", [], {"pictures": [1]}),
    ("products.tasks.embed", [{"images": [1], "model": "next"}], {}),
    ("products.tasks.embed", ["all"], {}),
    ("products.tasks.embed", [[10**30]], {}),
    ("products.tasks.embed_question", [], {}),
    ("products.tasks.embed_question", ["id", "not base64", 3], {}),
    ("products.tasks.embed_question", [None, None], {}),
    ("products.tasks.sweep", ["deep"], {"limit": 5}),
    ("matching.tasks.match_unmatched", [[1], 2, 3], {}),
    ("matching.tasks.match_unmatched", [{"product": 1}], {}),
    ("matching.tasks.keep_index", [], {"engine": "next"}),
    ("products.tasks.name_of_a_later_release", [1], {}),
]


def test_messages_of_other_releases_stop_neither_worker_nor_queue(stack: Stack) -> None:
    worker = stack.start_worker()
    sender = Celery(broker=stack.redis.url)
    accepted = {}
    for queue in ("bulk", "questions"):
        for number, (task, args, kwargs) in enumerate(CALLS):
            sender.send_task(task, args, kwargs, queue=queue)
            if number % 4 == 0:
                accepted[stack.upload([jpeg(number)], sku=f"{queue} {number}").body["product_id"]] = 1
    sender.close()
    wait_until(
        lambda: stack.log("worker").count("name_of_a_later_release") >= 2, 60, "the worker has read all messages"
    )
    wait_until_idle(stack)
    assert worker.poll() is None
    assert stack.upload([jpeg(50)], wait=30, sku="after").body["status"] == "success"
    assert stack.match_image(jpeg(50), wait=30).status == 200
    [(after,)] = stack.rows("SELECT id FROM products WHERE sku = 'after'")
    assert_intact(stack, accepted | {after: 1})
