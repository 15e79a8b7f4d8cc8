"""A breaker for refused credentials: calls that would be refused again are not made."""

from dataclasses import dataclass

FREE_TRIES = 2
"""Refusals in a row that are believed to be a passing fault; the breaker opens with this one."""
FIRST_SECONDS = 5.0
"""How long it stays open then; doubles with each further refusal."""
LONGEST_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class _Refused:
    version: int
    times: int
    until: float


class Refusals:
    """Which credentials the platform refuses, by name and version of their secret.

    One refusal changes nothing. Repeats cost the account a call each, so they become rarer and rarer; each of them is a
    probe, and one success, or another version of the secret, closes the breaker.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, _Refused] = {}

    def wait(self, name: str, version: int, now: float) -> float:
        """Seconds until a call may be tried with this credential; 0 when it may now. `now` is monotonic."""
        last = self._by_name.get(name)
        return max(0.0, last.until - now) if last is not None and last.version == version else 0.0

    def refused(self, name: str, version: int, now: float) -> None:
        """The platform refused it."""
        last = self._by_name.get(name)
        times = last.times + 1 if last is not None and last.version == version else 1
        seconds = FIRST_SECONDS * 2 ** min(times - FREE_TRIES, 10) if times >= FREE_TRIES else 0.0
        self._by_name[name] = _Refused(version, times, now + min(seconds, LONGEST_SECONDS))

    def accepted(self, name: str) -> None:
        """The platform took it."""
        self._by_name.pop(name, None)

    def open_count(self, now: float) -> int:
        """How many credentials are being spared."""
        return sum(1 for last in self._by_name.values() if last.until > now)
