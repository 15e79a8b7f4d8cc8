"""The doctor's calls to the platform: each takes its slot out of the same ledger as the gateways' calls."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto

from prometheus_client import CollectorRegistry
from typing_extensions import override

from campaign_gateway.app.build import Plan, build_platform, build_seals, build_signers
from campaign_gateway.contract.answers import Response
from campaign_gateway.contract.dates import http_date
from campaign_gateway.contract.operations import Call, Operation
from campaign_gateway.policy.clock_offset import DatedAnswer, estimate
from campaign_gateway.policy.ledger import Allowance, Lane
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.circuit_breaker import CircuitBreaker
from campaign_gateway.proxy.fetch import Fetched, Fetcher
from campaign_gateway.proxy.ports import Ledgers, Upstream, UpstreamError
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.settings import Credential
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.ledgers import MemoryLedgers
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.store.redis.ledgers import RedisLedgers
from campaign_gateway.store.redis.link import RedisLink
from campaign_gateway.telemetry.metrics import Metrics
from campaign_gateway.upstream.budget import CallBudget
from campaign_gateway.upstream.client import PlatformClient
from campaign_gateway.upstream.signer import Signer

MOST_CALLS = 10
"""To the platform, for each stream."""
LONG_EXPIRED_SECONDS = 86_400.0
"""Beyond what any two clocks differ by."""
CLIENT = "doctor"
"""Who asks for them, in the ledger."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to the platform."""

    fetched: Fetched | Failure
    response: Response | None
    """As it came in; None where none did."""
    sent_at: float
    """Seconds since 1970 by this machine's clock: before the request left ..."""
    had_at: float
    """... and when the answer was there."""

    @property
    def seconds_ahead(self) -> float | None:
        """How far the platform's clock is ahead of this machine's; None where the answer had no `Date`."""
        date = None if self.response is None or self.response.date is None else http_date(self.response.date)
        return None if date is None else estimate([DatedAnswer(self.sent_at, self.had_at, date)]).seconds


class Token(Enum):
    """Tokens that tell causes of a refusal apart."""

    AS_SET = auto()
    EXPIRED = auto()
    """As good as the others, but for its time."""
    SINGLE_USE = auto()
    """With a `jti`, whatever the settings say."""


class Recorder(Upstream):
    """The platform, with each answer kept as it came in, and no more calls for a stream than the doctor may make."""

    def __init__(self, clients: Mapping[Token, PlatformClient]) -> None:
        """A recorder. `clients` sign with these tokens."""
        self._clients = clients
        self.response: Response | None = None
        self.headers: Mapping[str, str] = {}
        """Fields that the next calls have beside their own."""
        self.token = Token.AS_SET
        """What the next calls go out with."""
        self.made: Counter[str] = Counter()
        """Calls that have left, by the stream's alias."""

    @override
    def credential_version(self, stream: Stream) -> int:
        return self._clients[self.token].credential_version(stream)

    @override
    async def renew_credential(self, stream: Stream, version: int) -> bool:
        # What was read is what is judged.
        return False

    @override
    async def send(self, stream: Stream, call: Call, leave_by: float, *, is_anew: bool = False) -> Response:
        if self.made[stream.alias] >= MOST_CALLS:
            raise UpstreamError(Problem.OVERLOADED, f"{MOST_CALLS} calls were made", was_sent=False)
        call = replace(call, headers={**call.headers, **self.headers})
        self.made[stream.alias] += 1
        self.response = await self._clients[self.token].send(stream, call, leave_by, is_anew=is_anew)
        return self.response


class Calls:
    """Questions to the platform."""

    def __init__(self, fetcher: Fetcher, budget: CallBudget, recorder: Recorder, *, is_shared: bool) -> None:
        self._fetcher = fetcher
        self._recorder = recorder
        self.budget = budget
        self.is_shared = is_shared
        """Whether running gateways count these calls."""

    def made(self, stream: Stream) -> int:
        """Calls that were made for the stream."""
        return self._recorder.made[stream.alias]

    async def ask(
        self,
        stream: Stream,
        operation: Operation,
        wait: float,
        *,
        id_: str = "",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        token: Token = Token.AS_SET,
    ) -> Asked:
        """One question, asked once there is a slot for it.

        Args:
            stream: which.
            operation: a read.
            wait: seconds to wait for a slot at most.
            id_: the campaign's.
            body: of a list.
            headers: further fields of the request.
            token: what it goes out with.
        """
        recorder = self._recorder
        recorder.response, recorder.headers, recorder.token = None, headers or {}, token
        # Each call is to find something out: none rests because one before it was refused.
        self._fetcher.breaker = CircuitBreaker()
        request = Request(stream, operation, id_, CLIENT, body=body)
        sent_at = time.time()
        fetched = await self._fetcher.fetch(request, Lane.INTERACTIVE, CLIENT, wait)
        return Asked(fetched, recorder.response, sent_at, time.time())


@asynccontextmanager
async def open_calls(
    plan: Plan, credentials: Mapping[str, Credential], link: RedisLink | None, clock: StoreClock
) -> AsyncIterator[Calls]:
    """Calls for as long as the block lasts; then the ledger knows of all of them, and no longer of us.

    Args:
        plan: what the settings come to.
        credentials: those that can sign, by name.
        link: to Redis, whose ledgers are taken; None counts here alone, within the reserve.
        clock: the link's.
    """
    metrics, tasks = Metrics(CollectorRegistry()), Tasks()
    async with AsyncExitStack() as stack:
        recorder = Recorder(
            {
                token: await stack.enter_async_context(build_platform(plan.settings, signers))
                for token, signers in _signers(credentials).items()
            }
        )
        stack.push_async_callback(tasks.close)
        ledgers: Ledgers = MemoryLedgers(clock)
        allowance: Callable[[str], Allowance] = lambda account: within_reserve(plan.allowance(account))  # noqa: E731
        if link is not None:
            await link.start(tasks)
            ledgers = RedisLedgers(link, link.keys, build_seals(plan.settings.cache.seal, lambda _: None))
            allowance = plan.allowance
        budget = CallBudget(allowance, ledgers, metrics, tasks)
        stack.push_async_callback(budget.depart)
        await budget.start(plan.accounts)
        fetcher = Fetcher(recorder, budget, MemoryStore(0, clock, metrics), metrics)
        yield Calls(fetcher, budget, recorder, is_shared=link is not None)


def _signers(credentials: Mapping[str, Credential]) -> dict[Token, Mapping[str, Signer]]:
    single = {name: credential.model_copy(update={"jti": True}) for name, credential in credentials.items()}
    return {
        Token.AS_SET: build_signers(credentials),
        Token.EXPIRED: build_signers(credentials, lambda: time.time() - LONG_EXPIRED_SECONDS),
        Token.SINGLE_USE: build_signers(single),
    }


def within_reserve(allowance: Allowance) -> Allowance:
    """What may be done where running gateways do not count it: no more than they leave to callers who wait."""
    return replace(allowance, calls=max(1, allowance.reserve), reserve=0, lanes={})
