"""The operators' port of several workers: each is asked over its own Unix socket, and the answers are joined.

Not `prometheus_client`'s multi-process mode: it doubles the cost of each count, and knows no value that is read at the
time of a scrape, as most gauges here are.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from campaign_gateway.admin.probes import Part, answer_json, answer_readiness, application

READY_SECONDS = 0.5
"""How long a probe waits for a worker: well within the second that a probe may take as a whole."""
SCRAPE_SECONDS = 3.0
"""How long a scrape waits for a worker, well within the ten seconds that Prometheus waits."""

_FAMILY = re.compile(r"^# HELP (\S+) .*\n# TYPE .*\n(?:# UNIT .*\n)?", re.MULTILINE)
_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{)?", re.MULTILINE)
_END = "# EOF\n"


class Answer(NamedTuple):
    """What a worker says."""

    status: int
    content_type: str
    body: bytes


class Lines:
    """The ways to the workers, by number."""

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

    async def ask(self, target: str, seconds: float, accept: str = "*/*") -> dict[int, Answer]:
        """The answers of the workers that gave one in time."""
        answers = await asyncio.gather(*(self._ask(session, target, seconds, accept) for session in self._sessions))
        return {number: answer for number, answer in enumerate(answers) if answer is not None}

    async def ask_any(self, target: str, seconds: float) -> Answer | None:
        """The answer of the first worker that gives one in time."""
        for session in self._sessions:
            if (answer := await self._ask(session, target, seconds, "*/*")) is not None:
                return answer
        return None

    async def _ask(self, session: aiohttp.ClientSession, target: str, seconds: float, accept: str) -> Answer | None:
        try:
            async with asyncio.timeout(seconds), session.get(target, headers={"Accept": accept}) as response:
                return Answer(response.status, response.headers["Content-Type"], await response.read())
        except (aiohttp.ClientError, TimeoutError):
            return None


def joined_application(lines: Lines, registry: CollectorRegistry, answered: Callable[[int], None]) -> web.Application:
    """The application behind `admin_listen` when there are several workers.

    Args:
        lines: the ways to them.
        registry: what is counted of the workers themselves; none of its families is theirs.
        answered: told with each scrape how many of them are in it.
    """

    async def livez(_request: web.Request) -> web.Response:
        return answer_json(200, {"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        answers = await lines.ask("/readyz", READY_SECONDS)
        told = {number: msgspec.json.decode(answer.body, type=_Told).parts for number, answer in answers.items()}
        return answer_readiness(join_readiness(told, len(lines)))

    async def metrics(request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        answers = await lines.ask("/metrics", SCRAPE_SECONDS, accept)
        pages = {number: answer.body.decode() for number, answer in answers.items() if answer.status == 200}  # noqa: PLR2004
        answered(len(pages))
        encode, content_type = choose_encoder(accept)
        own = encode(registry).decode()
        end = _END if own.endswith(_END) else ""
        text = own.removesuffix(end) + join_pages(pages) + end
        return web.Response(body=text.encode(), headers={"Content-Type": content_type})

    async def explained(request: web.Request) -> web.Response:
        # As it came, for the worker to judge.
        answer = await lines.ask_any(request.raw_path, SCRAPE_SECONDS)
        if answer is None:
            return answer_json(503, {"detail": "no worker answers"})
        return web.Response(status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type})

    return application(livez, readyz, metrics, explained)


class _Told(msgspec.Struct):
    parts: dict[str, Part]


def join_readiness(told: Mapping[int, Mapping[str, Part]], workers: int) -> dict[str, Part]:
    """The service's parts, out of those that the workers told, by number: it is ready when one of them is."""
    ready = {number for number, parts in told.items() if all(part.status != "down" for part in parts.values())}
    missing = [number for number in range(workers) if number not in ready]
    joined = {"workers": Part("ok")}
    if missing:
        joined["workers"] = Part("degraded" if ready else "down", f"not ready: {_named(missing)}")
    for name in sorted({name for parts in told.values() for name in parts}):
        reasons: dict[str | None, list[int]] = {}
        for number, parts in told.items():
            if parts[name].status != "ok":
                reasons.setdefault(parts[name].reason, []).append(number)
        is_down = all(parts[name].status == "down" for parts in told.values())
        text = "; ".join(f"{reason} ({_named(numbers)})" for reason, numbers in reasons.items())
        joined[name] = Part("down" if is_down else "degraded", text) if reasons else Part("ok")
    return joined


def _named(numbers: Sequence[int]) -> str:
    return f"worker {', '.join(map(str, numbers))}"


def join_pages(pages: Mapping[int, str]) -> str:
    """One exposition out of those of the workers, by number: each family whole, each sample with the label `worker`.

    The text is as `prometheus_client` writes it, in either format; the end revision of OpenMetrics is left out.
    """
    families: dict[str, list[str]] = {}
    for number, page in pages.items():
        heads = list(_FAMILY.finditer(page))
        ends = [head.start() for head in heads[1:]] + [len(page)]
        for head, end in zip(heads, ends, strict=True):
            samples = page[head.end() : end].removesuffix(_END)
            families.setdefault(head[1], [head[0]]).append(_labelled(samples, number))
    return "".join(text for texts in families.values() for text in texts)


def _labelled(samples: str, number: int) -> str:
    return _SAMPLE.sub(lambda name: f'{name[1]}{{worker="{number}"{"," if name[2] else "}"}', samples)
