"""Let a Celery worker survive what Redis says and holds although Celery did not write it.

kombu 5.7 parses each reply and message in the worker's event loop, where an error ends the worker.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport.redis import Channel
from kombu.transport.virtual import Message
from redis import Connection, SSLConnection
from redis.exceptions import InvalidResponse

from core.redis_state import UNREADABLE, readable

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


class _CheckedReplies(Connection):
    """A connection that raises InvalidResponse, which Celery survives, for any reply that cannot be parsed."""

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        with readable():
            return super().read_response(*arguments, **options)

    def on_connect_check_health(self, check_health: bool = True) -> None:
        # redis-py reads the reply to HELLO itself, also when an acknowledgement opens the connection.
        with readable():
            super().on_connect_check_health(check_health)


class _CheckedSSLReplies(_CheckedReplies, SSLConnection):
    pass


class CheckedChannel(Channel):
    """A channel that drops foreign messages. The sweep finds all pending images anyway."""

    Message = CheckedMessage
    connection_class = _CheckedReplies
    connection_class_ssl = _CheckedSSLReplies

    def _create_client(self, *arguments: Any, **options: Any) -> Any:
        client = super()._create_client(*arguments, **options)  # type: ignore[misc]  # the stubs lack private methods
        client.set_response_callback("BRPOP", _queue_and_message)
        return client

    def _receive(self) -> Any:
        with readable():
            return super()._receive()  # type: ignore[misc]

    def get_table(self, exchange: str) -> list[tuple[str, str, str]]:
        """Return the bindings of an exchange, which are triples, without foreign ones."""
        with readable():
            return [binding for binding in super().get_table(exchange) if len(binding) == 3]

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        # Tasks run within this call, but Celery catches what they raise: these come from parsing.
        except (ForeignMessageError, *UNREADABLE) as error:
            logger.warning("Dropped a message in Redis that Celery did not write (%s).", type(error).__name__)
            return True


def _queue_and_message(reply: Any) -> tuple[bytes, bytes] | None:
    """Return the reply to BRPOP. Raises InvalidResponse, so that the worker connects again."""
    match reply:
        case None | []:
            return None
        case [bytes() as queue, bytes() as message]:
            return queue, message
    raise InvalidResponse("a reply to BRPOP that is no message")
