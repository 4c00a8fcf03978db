"""The Celery application. Its settings are Django's, with the prefix CELERY_."""

import logging
import os
from typing import Any

from celery import Celery, Task
from kombu.transport.redis import QoS, Transport

from core import outages
from core.redis_channel import CheckedChannel

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "catalogmatch.settings")

logger = logging.getLogger(__name__)


class OutageError(Exception):
    """The installation failed, not the task. The message tells the operator what to do."""


class OutageTask(Task):  # type: ignore[type-arg]  # it takes none when it runs
    """A task that logs one sentence instead of a traceback if the database is unavailable or damaged."""

    throws = (OutageError,)

    def __call__(self, *args: Any, **options: Any) -> Any:
        try:
            return super().__call__(*args, **options)
        except Exception as error:
            text = outages.explain(error)
            if text is None:
                raise
            logger.error("%s: %s", self.name, text)
            raise OutageError(text) from error


app = Celery("catalogmatch", task_cls=OutageTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.autodiscover_tasks(["matching.learning", "matching.policy", "matching.quality", "products.downloads"])

# Messages only notify workers, and the sweep replaces lost ones. So none is restored when a connection ends. If Redis
# is away, kombu 5.7 fails to restore them with an AttributeError, which ends the worker.
QoS.restore_at_shutdown = False
Transport.Channel = CheckedChannel
