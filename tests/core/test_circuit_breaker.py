"""The circuit breaker: after a failed call to Redis, further calls fail at once for a moment."""

from __future__ import annotations

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core import circuit_breaker

pytestmark = pytest.mark.usefixtures("redis_comes_back")


def reach() -> None:
    with circuit_breaker.redis_call():
        pass


@pytest.mark.parametrize("error", [OperationalError("connection refused"), RedisTimeoutError("timeout")])
def test_redis_is_not_called_for_a_moment_after_a_failure(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with (
        pytest.raises(circuit_breaker.BrokerUnavailableError, match=f"does not respond: {error}"),
        circuit_breaker.redis_call(),
    ):
        raise error
    called = False
    with pytest.raises(circuit_breaker.BrokerUnavailableError, match="a moment ago"), circuit_breaker.redis_call():
        called = True
    assert not called
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_only_one_caller_retries_redis_after_the_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(circuit_breaker, "RETRY_SECONDS", 0)
    with pytest.raises(circuit_breaker.BrokerUnavailableError), circuit_breaker.redis_call():
        raise OperationalError
    with circuit_breaker.redis_call():
        monkeypatch.setattr(circuit_breaker, "RETRY_SECONDS", 60)
        with pytest.raises(circuit_breaker.BrokerUnavailableError):
            reach()  # a call by another thread while this one retries
    reach()
    assert caplog.messages[-1] == "Redis can be used again."


def test_other_errors_do_not_open_the_circuit() -> None:
    with pytest.raises(ValueError, match="a bad image"), circuit_breaker.redis_call():
        raise ValueError("a bad image")
    reach()
