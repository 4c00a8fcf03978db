"""Let a Celery worker survive messages in Redis that Celery did not write.

kombu 5.7 parses each message in the worker's event loop, where an error ends the worker.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport.redis import Channel
from kombu.transport.virtual import Message

logger = logging.getLogger(__name__)


class ForeignMessageError(Exception):
    """A message that no Celery has written."""


class CheckedMessage(Message):
    def __init__(self, payload: Any, channel: Any = None, **options: Any) -> None:
        try:
            super().__init__(payload, channel, **options)
            # What kombu reads of a message later.
            _ = (self.delivery_info["exchange"], self.delivery_info["routing_key"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ForeignMessageError(type(error).__name__) from error


class CheckedChannel(Channel):
    """A channel that drops foreign messages. The sweep finds all pending images anyway."""

    Message = CheckedMessage

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs lack private methods
        # Tasks run within this call, but Celery catches what they raise: a ValueError comes from parsing.
        except (ForeignMessageError, ValueError, RecursionError) as error:
            logger.warning("Dropped a message in Redis that Celery did not write (%s).", type(error).__name__)
            return True
