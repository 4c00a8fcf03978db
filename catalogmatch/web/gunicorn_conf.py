"""Configuration of the web server. Command-line options override it.

gunicorn --config catalogmatch/web/gunicorn_conf.py
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

wsgi_app = "catalogmatch.wsgi"
bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "catalogmatch.web.gunicorn_worker.SlowClientWorker"
# Its lines, also those of an access log, cannot be forged by a request.
logger_class = "catalogmatch.web.gunicorn_logger.EscapingLogger"
# More threads than slow clients from one address. A waiting thread costs little. CATALOGMATCH_DECODERS limits how many
# uploads are decoded at the same time.
threads = 64
keepalive = 5
control_socket_disable = True  # unused, and two servers of one user would share its path
# Seconds after which a process with a stuck main loop is replaced. Requests may take longer.
timeout = 60
graceful_timeout = 30
# A heartbeat file on a disk would stall if the disk stalls.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108  # nosec B108 # random names


def post_worker_init(_worker: Any) -> None:
    """Exclude loaded code from garbage collection. Without a broker, register as a worker."""
    # Collecting the loaded modules again and again took an eighth of the time of a request.
    gc.collect()
    gc.freeze()
    from django.conf import settings

    from gpu.monitoring import worker

    if not settings.HAS_BROKER:
        worker.register()


def worker_exit(_server: Any, _worker: Any) -> None:
    """Unregister as a worker."""
    if "gpu.monitoring.worker" in sys.modules:  # missing if the application could not be loaded
        sys.modules["gpu.monitoring.worker"].unregister()
