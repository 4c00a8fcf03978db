"""The Celery application; its settings are Django's, with the prefix CELERY_."""

import os

from celery import Celery
from kombu.transport.redis import QoS

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "catalogmatch.settings")

app = Celery("catalogmatch")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# A message is a wake-up that the sweep makes good, so none is put back when a connection ends. While Redis is away
# kombu 5.7 fails to put them back with an AttributeError, which ends the worker.
QoS.restore_at_shutdown = False
