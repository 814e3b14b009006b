"""Pauses grow, are drawn, honour the server, and never reach past the deadline."""

from __future__ import annotations

import pytest

from evflex.client import DeadlineExceededError, NotFoundError, RetryPolicy, UnavailableError
from evflex.client.retry import Attempts

POLICY = RetryPolicy(max_attempts=4, initial_pause_s=1.0, max_pause_s=3.0, multiplier=2.0)


def unavailable(retry_after_s: float | None = None) -> UnavailableError:
    error = UnavailableError("busy", code="UNAVAILABLE")
    error.retry_after_s = retry_after_s
    return error


@pytest.mark.parametrize(("failures", "highest"), [(1, 1.0), (2, 2.0), (3, 3.0), (9, 3.0)])
def test_pauses_grow_up_to_their_limit(failures: int, highest: float) -> None:
    assert POLICY.pause_s(failures, unavailable(), 0.0) == pytest.approx(highest / 2)
    assert POLICY.pause_s(failures, unavailable(), 1.0) == pytest.approx(highest)


def test_a_delay_that_the_server_asks_for_is_the_least() -> None:
    assert POLICY.pause_s(1, unavailable(retry_after_s=7.0), 0.0) >= 7.0


def test_attempts_end(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts(POLICY, None)
    error = unavailable()
    for _ in range(3):
        assert attempts.pause_or_raise(error) > 0.0
    with pytest.raises(UnavailableError) as caught:
        attempts.pause_or_raise(error)
    assert caught.value is error


def test_progress_starts_the_count_anew() -> None:
    attempts = Attempts(POLICY, None)
    for _ in range(10):
        attempts.pause_or_raise(unavailable())
        attempts.succeeded()


@pytest.mark.parametrize("kind", [NotFoundError, DeadlineExceededError])
def test_what_does_not_help_is_not_repeated(kind: type[NotFoundError]) -> None:
    with pytest.raises(kind):
        Attempts(POLICY, None).pause_or_raise(kind("no", code="X"))


def test_no_pause_reaches_past_the_deadline() -> None:
    attempts = Attempts(POLICY, 0.2)
    with pytest.raises(UnavailableError):
        attempts.pause_or_raise(unavailable())
    assert 0.0 < (attempts.remaining_s() or 0.0) <= 0.2
