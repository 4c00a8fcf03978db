"""The Celery application. Its settings are Django's, with the prefix CELERY_."""

import os

from celery import Celery
from kombu.transport.redis import QoS, Transport

from core.redis_channel import CheckedChannel

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "catalogmatch.settings")

app = Celery("catalogmatch")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# Messages only notify workers, and the sweep replaces lost ones. So none is restored when a connection ends. If Redis
# is away, kombu 5.7 fails to restore them with an AttributeError, which ends the worker.
QoS.restore_at_shutdown = False
Transport.Channel = CheckedChannel
