"""Faults in a process, without a hook in the program: Python runs this file first.

A test puts this folder on the PYTHONPATH of a process and chooses the faults by environment variables:

FAULT_SECONDS_PER_IMAGE    computing each image takes that long
FAULT_DEADLY_SIDE          an image of that height in pixels kills the process, like a segmentation fault
FAULT_ENDLESS_SIDE         computing an image of that height never ends
FAULT_DEAF_SIDE            the same, and it blocks all other threads of the process
FAULT_DELIVERIES           every message to a queue is published that often
FAULT_SECONDS_PER_COMMIT   every transaction waits that long before its commit
FAULT_WRITES               writes to the database fail, see ``failing_writes``
"""

import ctypes
import os
import signal
import time
from typing import Any

from gpu import legacy

SECONDS = float(os.environ.get("FAULT_SECONDS_PER_IMAGE", "0"))
DEADLY_SIDE = int(os.environ.get("FAULT_DEADLY_SIDE", "0"))
ENDLESS_SIDE = int(os.environ.get("FAULT_ENDLESS_SIDE", "0"))
DEAF_SIDE = int(os.environ.get("FAULT_DEAF_SIDE", "0"))
DELIVERIES = int(os.environ.get("FAULT_DELIVERIES", "1"))
SECONDS_A_COMMIT = float(os.environ.get("FAULT_SECONDS_PER_COMMIT", "0"))

_extract = legacy.extract_legacy


def faulty(image: Any) -> Any:
    time.sleep(SECONDS)
    if image.height == DEADLY_SIDE:
        os.kill(os.getpid(), signal.SIGKILL)
    if image.height == ENDLESS_SIDE:
        time.sleep(3600)
    if image.height == DEAF_SIDE:
        ctypes.PyDLL(None).sleep(3600)  # this call keeps the GIL
    return _extract(image)


legacy.extract_legacy = faulty

if DELIVERIES > 1:
    from kombu import Producer

    _publish = Producer.publish

    def publish_often(self: Producer, *arguments: Any, **options: Any) -> Any:
        for _ in range(DELIVERIES - 1):
            _publish(self, *arguments, **options)
        return _publish(self, *arguments, **options)

    Producer.publish = publish_often  # type: ignore[method-assign]

if SECONDS_A_COMMIT:
    from django.db.backends.base.base import BaseDatabaseWrapper

    _commit = BaseDatabaseWrapper.commit

    def commit_late(self: BaseDatabaseWrapper) -> None:
        time.sleep(SECONDS_A_COMMIT)
        _commit(self)

    BaseDatabaseWrapper.commit = commit_late  # type: ignore[method-assign]

if "FAULT_WRITES" in os.environ:
    from tests.faults import failing_writes as failing_writes
