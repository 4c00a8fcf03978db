"""How the web server runs: ``gunicorn --config catalogmatch/web/gunicorn_conf.py``. Options on the command line win."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

wsgi_app = "catalogmatch.wsgi"
bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "catalogmatch.web.gunicorn_worker.SlowClientWorker"
# A thread that waits for a slow client costs little; there are more of them than slow clients that one address
# should have. What threads do at once is bounded elsewhere: decoding by CATALOGMATCH_DECODERS.
threads = 64
keepalive = 5
control_socket_disable = True  # nothing here uses it, and two servers of one user would share its path
# Seconds until a process whose main loop hangs is replaced; requests themselves may take longer.
timeout = 60
graceful_timeout = 30
# A heartbeat file on a disk can stall for as long as the disk does.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108


def post_worker_init(_worker: Any) -> None:
    """Take the program out of the search for garbage, and say that this process embeds where there is no broker."""
    # What is loaded by now stays; looking through it again and again took an eighth of the time of a request.
    gc.collect()
    gc.freeze()
    from django.conf import settings

    from gpu.monitoring import worker

    if not settings.HAS_BROKER:
        worker.register()


def worker_exit(_server: Any, _worker: Any) -> None:
    """A process that embedded says that it is gone."""
    if "gpu.monitoring.worker" in sys.modules:  # it is not where the program could not be loaded
        sys.modules["gpu.monitoring.worker"].stop()
