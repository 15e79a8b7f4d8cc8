"""The operators' port of several workers: each is asked over its own Unix socket, and the answers are joined.

Not `prometheus_client`'s multi-process mode: it doubles the cost of each count, and knows no value that is read at the
time of a scrape, as most gauges here are.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import aiohttp
import msgspec
from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from typing_extensions import override

from campaign_gateway.admin.answers import answer_json, read_body
from campaign_gateway.admin.console import page_routes
from campaign_gateway.admin.probes import Part, answer_metrics, answer_readiness, application

READY_SECONDS = 0.5
"""How long a probe waits for a worker: well within the second that a probe may take as a whole."""
_FORWARDED = (hdrs.AUTHORIZATION, hdrs.CONTENT_TYPE)
SCRAPE_SECONDS = 3.0
"""How long a scrape waits for a worker, well within the ten seconds that Prometheus waits."""


class WorkerResponse(NamedTuple):
    """What a worker says."""

    status: int
    content_type: str
    body: bytes


class WorkerClient:
    """Asks the workers, each over its own socket, by number."""

    def __init__(self, sockets: Sequence[Path]) -> None:
        self._sockets = sockets
        self._sessions: list[aiohttp.ClientSession] = []

    def __len__(self) -> int:
        return len(self._sockets)

    async def __aenter__(self) -> Self:
        for path in self._sockets:
            self._sessions.append(aiohttp.ClientSession("http://worker", connector=aiohttp.UnixConnector(str(path))))
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions:
            await session.close()

    async def fetch(self, target: str, seconds: float, accept: str = "*/*") -> dict[int, WorkerResponse]:
        """The answers of the workers that gave one in time."""
        answers = await asyncio.gather(*(self._fetch(session, target, seconds, accept) for session in self._sessions))
        return {number: answer for number, answer in enumerate(answers) if answer is not None}

    async def forward(self, request: web.Request, body: bytes, seconds: float) -> WorkerResponse | None:
        """The answer to the same request, with this body, of the first worker that gives one in time."""
        fields = [(name, value) for name in _FORWARDED for value in request.headers.getall(name, [])]
        for session in self._sessions:
            answer = await self._fetch(session, request.raw_path, seconds, "*/*", fields, body, request.method)
            if answer is not None:
                return answer
        return None

    async def _fetch(
        self,
        session: aiohttp.ClientSession,
        target: str,
        seconds: float,
        accept: str,
        fields: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        method: str = hdrs.METH_GET,
    ) -> WorkerResponse | None:
        # Between processes of one machine nothing is gained by packing.
        asked = [("Accept", accept), ("Accept-Encoding", "identity"), *fields]
        try:
            async with (
                asyncio.timeout(seconds),
                session.request(method, target, headers=asked, data=body or None) as response,
            ):
                return WorkerResponse(response.status, response.headers["Content-Type"], await response.read())
        except (aiohttp.ClientError, TimeoutError):
            return None


def workers_application(
    client: WorkerClient, registry: CollectorRegistry, answered: Callable[[int], None]
) -> web.Application:
    """The application behind `admin_listen` when there are several workers.

    Args:
        client: asks them.
        registry: what is counted of the workers themselves; none of its families is theirs.
        answered: called at each scrape with how many of them are in it.
    """

    async def livez(_request: web.Request) -> web.Response:
        return answer_json(200, {"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        answers = await client.fetch("/readyz", READY_SECONDS)
        readiness = {
            number: msgspec.json.decode(answer.body, type=_Readiness).parts for number, answer in answers.items()
        }
        return answer_readiness(join_readiness(readiness, len(client)))

    async def metrics(request: web.Request) -> web.Response:
        # In the form that leaves nothing out, whatever the scrape asks for.
        answers = await client.fetch("/metrics", SCRAPE_SECONDS, OPENMETRICS)
        pages = {number: answer.body.decode() for number, answer in answers.items() if answer.status == 200}  # noqa: PLR2004
        answered(len(pages))
        return await answer_metrics(request, JoinedMetrics(registry.collect(), pages))

    async def forwarded(request: web.Request) -> web.Response:
        # As it came, for the worker to judge.
        body = await read_body(request)
        if body is None:
            return answer_json(400, {"detail": "the body is too long, or does not come"})
        answer = await client.forward(request, body, SCRAPE_SECONDS)
        if answer is None:
            return answer_json(503, {"detail": "no worker answers"})
        return web.Response(status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type})

    return application(livez, readyz, metrics, forwarded, page_routes(forwarded))


class _Readiness(msgspec.Struct):
    parts: dict[str, Part]


def join_readiness(readiness: Mapping[int, Mapping[str, Part]], workers: int) -> dict[str, Part]:
    """The service's parts, out of those of the workers, by number: it is ready when one of them is."""
    ready = {number for number, parts in readiness.items() if all(part.status != "down" for part in parts.values())}
    missing = [number for number in range(workers) if number not in ready]
    joined = {"workers": Part("ok")}
    if missing:
        joined["workers"] = Part("degraded" if ready else "down", f"not ready: {_named(missing)}")
    for name in sorted({name for parts in readiness.values() for name in parts}):
        is_well = all(parts[name].status == "ok" for parts in readiness.values())
        reasons: dict[str | None, list[int]] = {}
        since = min((parts[name].since or "" for parts in readiness.values() if parts[name].status != "ok"), default="")
        for number, parts in readiness.items():
            if is_well or parts[name].status != "ok":
                reasons.setdefault(parts[name].reason, []).append(number)
        is_down = all(parts[name].status == "down" for parts in readiness.values())
        text = "; ".join(f"{reason} ({_named(numbers)})" for reason, numbers in reasons.items() if reason)
        status = "ok" if is_well else "down" if is_down else "degraded"
        joined[name] = Part(status, text or None, since or None)
    return joined


def _named(numbers: Sequence[int]) -> str:
    return f"worker {', '.join(map(str, numbers))}"


class JoinedMetrics(Collector):
    """The families of several workers as those of one process: each family once, each sample with a label `worker`."""

    def __init__(self, own: Iterable[Metric], pages: Mapping[int, str]) -> None:
        """A collector.

        Args:
            own: families beside those of the workers.
            pages: the workers' families in the OpenMetrics format, by the worker's number.
        """
        self._own = own
        self._pages = pages

    @override
    def collect(self) -> Iterable[Metric]:
        """The families; a page that is not in the format raises `ValueError`."""
        yield from self._own
        families: dict[str, Metric] = {}
        for number, page in self._pages.items():
            worker = {"worker": str(number)}
            for family in text_string_to_metric_families(page):  # type: ignore[no-untyped-call]
                samples = [sample._replace(labels=worker | sample.labels) for sample in family.samples]
                joined = families.setdefault(family.name, family)
                joined.samples = samples if joined is family else joined.samples + samples
        yield from families.values()
