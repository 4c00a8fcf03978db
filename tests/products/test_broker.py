"""Redis that does not answer is asked once, and then left alone for a moment."""

from __future__ import annotations

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import TimeoutError as RedisTimeoutError

from products import broker

pytestmark = pytest.mark.usefixtures("redis_comes_back")


def reach() -> None:
    with broker.asked():
        pass


@pytest.mark.parametrize("error", [OperationalError("connection refused"), RedisTimeoutError("timeout")])
def test_after_a_failure_nobody_asks_for_a_moment(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(broker.BrokerAwayError, match=f"does not answer: {error}"), broker.asked():
        raise error
    asked = False
    with pytest.raises(broker.BrokerAwayError, match="a moment ago"), broker.asked():
        asked = True
    assert not asked
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_after_that_moment_one_asks_for_all(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(broker, "RETRY_SECONDS", 0)
    with pytest.raises(broker.BrokerAwayError), broker.asked():
        raise OperationalError
    with broker.asked():
        monkeypatch.setattr(broker, "RETRY_SECONDS", 60)
        with pytest.raises(broker.BrokerAwayError):
            reach()  # another thread, while this one tries
    reach()
    assert caplog.messages[-1] == "Redis answers again."


def test_an_error_of_something_else_says_nothing_about_redis() -> None:
    with pytest.raises(ValueError, match="a bad picture"), broker.asked():
        raise ValueError("a bad picture")
    reach()
