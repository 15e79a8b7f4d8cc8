"""A circuit breaker for refused credentials: calls that would be refused again are not made."""

from dataclasses import dataclass, replace

from campaign_gateway.policy.backoff import Backoff

FREE_TRIES = 2
"""Refusals in a row that are believed to be a passing fault; the breaker opens with this one."""
WAITS = Backoff(first=5.0, most=300.0)
"""Seconds that it stays open then, and after each further refusal."""


@dataclass(frozen=True, slots=True)
class _RefusedCredential:
    version: int
    times: int = 0
    waits: Backoff = WAITS
    until: float = 0.0


class CircuitBreaker:
    """Which credentials the platform refuses, by name and version of their secret.

    One refusal changes nothing. Repeats cost the account a call each, so they become rarer and rarer; each of them is a
    probe, and one success, or another version of the secret, closes the breaker.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, _RefusedCredential] = {}

    def retry_in(self, name: str, version: int, now: float) -> float:
        """Seconds until a call may be tried with this credential; 0 when it may now. `now` is monotonic."""
        last = self._by_name.get(name)
        return max(0.0, last.until - now) if last is not None and last.version == version else 0.0

    def rests(self, name: str, now: float) -> float:
        """Seconds until the latest version of this credential may be tried again; 0 when it may now."""
        last = self._by_name.get(name)
        return max(0.0, last.until - now) if last is not None else 0.0

    def note_refusal(self, name: str, version: int, now: float) -> None:
        """The platform refused it."""
        last = self._by_name.get(name)
        if last is None or last.version != version:
            last = _RefusedCredential(version)
        times = last.times + 1
        waits = last.waits.grown() if times >= FREE_TRIES else last.waits
        self._by_name[name] = replace(last, times=times, waits=waits, until=now + waits.current)

    def note_success(self, name: str) -> None:
        """The platform accepted it."""
        self._by_name.pop(name, None)

    def open_count(self, now: float) -> int:
        """With how many credentials no call may be tried at present."""
        return sum(1 for last in self._by_name.values() if last.until > now)
