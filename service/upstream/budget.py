"""The call budget of one process: an exact log of calls per account, and a fair queue in front of it."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.policy.settle import Failure
from service.policy.window import CallLog, Lane
from service.problems import Problem
from service.proxy.ports import Meter, Refused

LONGEST_PAUSE_SECONDS = 300.0
"""A longer wait told by the platform is taken for a mistake; after this a call finds out."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an account may do: calls in any window (seconds), `kept` of them for callers who wait."""

    calls: int
    window: float
    kept: int


class LocalPermit:
    """One call's right to be sent."""

    def __init__(self) -> None:
        self.is_void = False

    def void(self) -> None:
        """See `Permit`."""
        self.is_void = True


@dataclass(slots=True)
class _Account:
    log: CallLog
    kept: int
    paused_until: float = 0.0
    queue: deque[asyncio.Future[None]] = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None


class LocalBudget:
    """Implements `Budget` for one process. Waiting is first come, first served."""

    def __init__(
        self, allowance: Callable[[str], Allowance], meter: Meter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._allowance = allowance
        self._meter = meter
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def remaining(self, account: str) -> int:
        """Calls that could be sent now."""
        state = self._state(account)
        return state.log.free(self._clock()) if state.paused_until <= self._clock() else 0

    def pause(self, account: str, seconds: float | None) -> float:
        """See `Budget`. A pause only ever grows, up to `LONGEST_PAUSE_SECONDS` from now."""
        state = self._state(account)
        wanted = state.log.window if seconds is None else min(seconds, LONGEST_PAUSE_SECONDS)
        state.paused_until = max(state.paused_until, self._clock() + wanted)
        left = state.paused_until - self._clock()
        for waiter in state.queue:
            if not waiter.done():
                waiter.set_exception(_paused(left))
        state.queue.clear()
        return left

    @asynccontextmanager
    async def permit(self, account: str, lane: Lane, wait: float) -> AsyncIterator[LocalPermit]:
        """See `Budget`."""
        state = self._state(account)
        began = self._clock()
        try:
            await self._enter(state, lane, wait)
        finally:
            self._meter.budget_wait(lane.value, self._clock() - began)
        permit = LocalPermit()
        try:
            yield permit
        finally:
            if permit.is_void:
                state.log.give_back()
            else:
                state.log.end(self._clock())
            self._serve(state)

    async def _enter(self, state: _Account, lane: Lane, wait: float) -> None:
        now = self._clock()
        if (pause := state.paused_until - now) > 0:
            raise _paused(pause)
        kept = 0 if lane.is_waited_for else state.kept
        if not state.queue and state.log.free(now) > kept:
            state.log.take()
            return
        expected = state.log.wait(now, len(state.queue) + 1 + kept)
        if expected > wait or kept:
            # Lanes below the reserve never queue: they would stand in front of somebody who waits.
            raise _exhausted(max(expected, 0.0))
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        state.queue.append(turn)
        self._serve(state)
        try:
            async with asyncio.timeout(wait):
                await turn
        except TimeoutError:
            raise _exhausted(state.log.wait(self._clock(), len(state.queue) + 1)) from None
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                state.log.give_back()
            raise
        finally:
            if turn in state.queue:
                state.queue.remove(turn)

    def _serve(self, state: _Account) -> None:
        """Gives free places to the head of the queue, and comes back when the next one falls free."""
        now = self._clock()
        while state.queue and state.log.free(now) > 0:
            turn = state.queue.popleft()
            if not turn.done():
                state.log.take()
                turn.set_result(None)
        if state.timer is not None:
            state.timer.cancel()
            state.timer = None
        if state.queue:
            state.timer = asyncio.get_running_loop().call_later(state.log.wait(now) + 0.001, self._serve, state)

    def _state(self, account: str) -> _Account:
        state = self._accounts.get(account)
        if state is None:
            allowance = self._allowance(account)
            state = self._accounts[account] = _Account(CallLog(allowance.calls, allowance.window), allowance.kept)
        return state


def _paused(seconds: float) -> Refused:
    return Refused(Failure(Problem.UPSTREAM_PAUSED, "the platform asked for a pause", retry_after=seconds))


def _exhausted(seconds: float) -> Refused:
    return Refused(Failure(Problem.BUDGET_EXHAUSTED, "the account's calls for now are spent", retry_after=seconds))
