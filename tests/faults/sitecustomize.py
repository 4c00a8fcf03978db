"""Faults of a worker process, without a hook in the program: Python runs this file before anything else.

A test puts this folder on the worker's PYTHONPATH. FAULT_SECONDS_A_PICTURE makes every picture take that long;
FAULT_DEADLY_SIDE kills the process, as a decoder's segmentation fault would, at a picture of that height in pixels.
"""

import os
import signal
import time
from typing import Any

from gpu import legacy

SECONDS = float(os.environ.get("FAULT_SECONDS_A_PICTURE", "0"))
DEADLY_SIDE = int(os.environ.get("FAULT_DEADLY_SIDE", "0"))
_extract = legacy.extract_legacy


def faulty(image: Any) -> Any:
    time.sleep(SECONDS)
    if image.height == DEADLY_SIDE:
        os.kill(os.getpid(), signal.SIGKILL)
    return _extract(image)


legacy.extract_legacy = faulty
