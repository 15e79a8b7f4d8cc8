import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import generate_latest as plain_of
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_of
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from campaign_gateway.admin import workers
from campaign_gateway.admin.console import page_routes
from campaign_gateway.admin.probes import Part, admin_application
from campaign_gateway.admin.workers import JoinedMetrics, WorkerClient, join_readiness, workers_application
from tests.support.meters import collecting

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
OK, SLOW, STOPPING = Part("ok"), Part("degraded", "redis: timeout"), Part("down", "stopping")


def registry_of(requests: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    Info("campaign_gateway_build", "The version.", registry=registry).info({"version": '0"1}\\'})
    Counter("campaign_gateway_requests", "Requests.", ["status"], registry=registry).labels("200").inc(requests)
    Histogram("campaign_gateway_seconds", "Seconds.", registry=registry, buckets=(1, 2)).observe(
        1.5, exemplar={"trace": "a b"}
    )
    Gauge("campaign_gateway_entries", "Entries # of all {kinds}.", registry=registry).set(float("nan"))
    return registry


# --- what is said of all, out of what each says


def test_pages_are_joined_by_family_with_the_worker_as_a_label():
    pages = {
        0: '# HELP a A.\n# TYPE a counter\na_total 1.0\n# HELP b B.\n# TYPE b gauge\nb{x="y"} 2.0\n# EOF\n',
        3: "# HELP a A.\n# TYPE a counter\na_total 5.0\n# HELP c C.\n# TYPE c gauge\nc 7.0\n# EOF\n",
    }
    assert plain_of(JoinedMetrics([], pages)).decode() == (
        '# HELP a_total A.\n# TYPE a_total counter\na_total{worker="0"} 1.0\na_total{worker="3"} 5.0\n'
        '# HELP b B.\n# TYPE b gauge\nb{worker="0",x="y"} 2.0\n'
        '# HELP c C.\n# TYPE c gauge\nc{worker="3"} 7.0\n'
    )
    assert plain_of(JoinedMetrics([], {})) == b""


def test_what_one_worker_says_comes_through_unchanged_but_for_its_label():
    registry = registry_of(3)
    joined_page = plain_of(JoinedMetrics([], {0: openmetrics_of(registry).decode()})).decode()
    labelled = re.sub(r"(?m)^(\w+)(?:\{(.*)\})?( \S+)$", with_worker, plain_of(registry).decode())
    assert sorted(joined_page.splitlines()) == sorted(labelled.splitlines())


def with_worker(line: re.Match[str]) -> str:
    labels = sorted([*filter(None, [line[2]]), 'worker="0"'])
    return f"{line[1]}{{{','.join(labels)}}}{line[3]}"


# --- the application, over real sockets


class Desk:
    """The joined application over workers of which some are there."""

    def __init__(self, client: TestClient[web.Request, web.Application], folder: Path) -> None:
        self.client, self.folder = client, folder
        self.seen: list[int] = []
        self.parts: dict[int, dict[str, Part]] = {}
        self._runners: dict[int, web.AppRunner] = {}

    async def come(self, number: int, application: web.Application | None = None) -> None:
        self.parts[number] = {"listener": OK, "store": OK}

        async def explain(stream: str, campaign: str) -> object | None:
            return {"campaign": campaign, "by": number} if stream == "support" else None

        made = application or admin_application(
            lambda: self.parts[number], collecting(registry_of(10 + number)), explain, ()
        )
        self._runners[number] = web.AppRunner(made, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runners[number].setup()
        await web.UnixSite(self._runners[number], self.folder / str(number)).start()

    async def go(self, number: int) -> None:
        await self._runners.pop(number).cleanup()

    async def close(self) -> None:
        for number in list(self._runners):
            await self.go(number)

    async def get(self, path: str, **headers: str):
        async with self.client.get(path, headers=headers) as response:
            await response.read()
            return response

    async def ready(self) -> tuple[int, str, dict[str, tuple[str, str | None]]]:
        response = await self.get("/readyz")
        found = await response.json()
        return response.status, found["status"], {name: tuple(part.values()) for name, part in found["parts"].items()}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """With places for three workers, and the first two there."""
    registry = CollectorRegistry()
    Counter("campaign_gateway_worker_restarts", "Restarts.", ["worker"], registry=registry).labels("0")
    seen: list[int] = []
    async with WorkerClient([tmp_path / str(number) for number in range(3)]) as workers_client:
        application = workers_application(workers_client, registry, seen.append)
        async with TestClient(TestServer(application)) as client:
            made = Desk(client, tmp_path)
            made.seen = seen
            await made.come(0)
            await made.come(1)
            yield made
            await made.close()


async def hang(_request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


def hanging() -> web.Application:
    application = web.Application()
    application.router.add_get("/{any:.*}", hang)
    return application


@pytest.mark.parametrize(
    ("accept", "content_type", "read"),
    [("*/*", "text/plain", read_text), (OPENMETRICS, "application/openmetrics-text", read_openmetrics)],
)
async def test_one_scrape_has_all_workers_in_the_form_that_is_asked_for(desk, accept, content_type, read):
    response = await desk.get("/metrics", Accept=accept)
    text = await response.text()
    assert (response.status, response.content_type) == (200, content_type)
    assert text.count("# EOF") == (1 if accept == OPENMETRICS else 0)
    families = {family.name: family for family in read(text)}
    assert len(families) == text.count("# TYPE ")
    samples = [
        (sample.labels["worker"], sample.labels["status"], sample.value)
        for sample in families["campaign_gateway_requests"].samples
        if sample.name.endswith("_total")
    ]
    assert samples == [("0", "200", 10.0), ("1", "200", 11.0)]
    [first, second] = (
        families["campaign_gateway_build"].samples
        if accept == OPENMETRICS
        else (families["campaign_gateway_build_info"].samples)
    )
    assert first.labels == {"worker": "0", "version": '0"1}\\'}
    assert second.labels == {"worker": "1", "version": '0"1}\\'}
    assert "campaign_gateway_worker_restarts" in families
    assert desk.seen == [2]


async def test_a_worker_that_is_gone_hangs_or_fails_is_left_out_of_the_scrape(desk, monkeypatch):
    monkeypatch.setattr(workers, "SCRAPE_SECONDS", 0.1)
    await desk.go(0)
    await desk.come(2, hanging())
    text = await (await desk.get("/metrics")).text()
    assert 'requests_total{status="200",worker="1"} 11.0' in text
    assert 'worker="2"' not in text
    await desk.go(1)
    await desk.come(1, web.Application())
    response = await desk.get("/metrics")
    assert (response.status, desk.seen) == (200, [1, 0])
    assert "campaign_gateway_worker_restarts" in await response.text()
    await desk.go(1)
    await desk.come(1)
    assert 'status="200",worker="1"' in await (await desk.get("/metrics")).text()


async def test_it_is_ready_while_one_worker_is_and_says_what_is_missing(desk, monkeypatch):
    monkeypatch.setattr(workers, "READY_SECONDS", 0.1)
    fine = {"listener": ("ok", None), "store": ("ok", None)}
    await desk.come(2)
    assert await desk.ready() == (200, "ready", {"workers": ("ok", None), **fine})
    await desk.go(2)
    assert await desk.ready() == (200, "degraded", {"workers": ("degraded", "not ready: worker 2"), **fine})
    await desk.come(2, hanging())
    await desk.go(0)
    assert await desk.ready() == (200, "degraded", {"workers": ("degraded", "not ready: worker 0, 2"), **fine})
    await desk.go(1)
    assert await desk.ready() == (503, "not ready", {"workers": ("down", "not ready: worker 0, 1, 2")})


@pytest.mark.parametrize(
    ("readiness", "parts"),
    [
        pytest.param(
            {0: {"store": OK}, 1: {"store": SLOW}},
            {"workers": OK, "store": Part("degraded", "redis: timeout (worker 1)")},
            id="one-has-less",
        ),
        pytest.param(
            {0: {"settings": Part("ok", "generation 2")}, 1: {"settings": Part("ok", "generation 1")}},
            {"workers": OK, "settings": Part("ok", "generation 2 (worker 0); generation 1 (worker 1)")},
            id="all-are-well-and-say-so",
        ),
        pytest.param(
            {0: {"store": SLOW}, 1: {"store": SLOW}},
            {"workers": OK, "store": Part("degraded", "redis: timeout (worker 0, 1)")},
            id="all-have-less",
        ),
        pytest.param(
            {0: {"store": SLOW}, 1: {"store": Part("degraded", "redis: auth")}},
            {"workers": OK, "store": Part("degraded", "redis: timeout (worker 0); redis: auth (worker 1)")},
            id="each-for-another-reason",
        ),
        pytest.param(
            {
                0: {"store": OK},
                1: {"store": Part("degraded", "a", "2026-11-27T10:00:02Z")},
                2: {"store": Part("degraded", "b", "2026-11-27T10:00:01Z")},
            },
            {"workers": OK, "store": Part("degraded", "a (worker 1); b (worker 2)", "2026-11-27T10:00:01Z")},
            id="since-the-first-of-them",
        ),
        pytest.param(
            {0: {"store": OK, "listener": OK}, 1: {"store": OK, "listener": STOPPING}},
            {
                "workers": Part("degraded", "not ready: worker 1"),
                "listener": Part("degraded", "stopping (worker 1)"),
                "store": OK,
            },
            id="one-is-down",
        ),
        pytest.param(
            {0: {"listener": STOPPING}, 1: {"listener": STOPPING}},
            {"workers": Part("down", "not ready: worker 0, 1"), "listener": Part("down", "stopping (worker 0, 1)")},
            id="promise-9-all-are-stopping",
        ),
    ],
)
def test_each_part_tells_of_the_workers_that_have_less(readiness, parts):
    assert join_readiness(readiness, 2) == parts


async def test_livez_asks_nobody(desk):
    await desk.close()
    response = await desk.get("/livez")
    assert (response.status, await response.json()) == (200, {"status": "ok"})


async def test_explain_is_answered_by_a_worker_that_is_there(desk, monkeypatch):
    monkeypatch.setattr(workers, "SCRAPE_SECONDS", 0.1)
    assert await (await desk.get("/explain/support/cd-1")).json() == {"campaign": "cd-1", "by": 0}
    await desk.go(0)
    await desk.come(0, hanging())
    response = await desk.get("/explain/support/cd-1")
    assert (response.content_type, await response.json()) == ("application/json", {"campaign": "cd-1", "by": 1})
    assert (await desk.get("/explain/sales/cd-1")).status == 404
    assert (await desk.get("/explain/support/..%2fcd-1")).status == 404
    await desk.close()
    assert (await desk.get("/explain/support/cd-1")).status == 503


async def test_the_console_is_told_by_a_worker_and_a_purge_comes_there_as_it_was_sent(desk):
    async def told(request: web.Request) -> web.Response:
        fields = [request.headers.get(name) for name in ("Authorization", "Content-Type")]
        return web.json_response([request.path_qs, *fields, (await request.read()).decode()])

    answering = web.Application()
    answering.add_routes(page_routes(told))
    await desk.go(0)
    await desk.go(1)
    await desk.come(0, answering)
    told_of = await (await desk.get("/console/state.json?stream=a&q=b")).json()
    assert told_of == ["/console/state.json?stream=a&q=b", None, None, ""]
    sent = {"headers": {"Authorization": "Bearer k"}, "json": {"stream": "support"}}
    async with desk.client.post("/console/purge", **sent) as response:
        assert await response.json() == ["/console/purge", "Bearer k", "application/json", '{"stream": "support"}']
    async with desk.client.post("/console/purge", data=b"x" * 5000) as response:
        assert response.status == 400
    assert "Campaign gateway" in await (await desk.get("/console")).text()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/explain/support/cd-1", "/nothing"])
async def test_no_answer_names_a_version(desk, path):
    assert (await desk.get(path)).headers.getall("Server") == ["campaign-gateway"]


def test_the_joined_openmetrics_page_keeps_exemplars():
    page = openmetrics_of(registry_of(1)).decode()
    assert 'le="2.0"} 1.0 # {trace="a b"} 1.5' in page
    joined_page = openmetrics_of(JoinedMetrics([], {1: page})).decode()
    assert re.search(r'campaign_gateway_seconds_bucket\{.*worker="1".*\} 1\.0 # \{trace="a b"\} 1\.5', joined_page)
