import re

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry, Counter

from campaign_gateway.admin.console import page_routes
from campaign_gateway.admin.probes import Part, admin_application
from tests.support.meters import collecting


class Desk:
    def __init__(self, client, registry: CollectorRegistry, parts: dict[str, Part]) -> None:
        self.client, self.registry, self.parts = client, registry, parts

    async def get(self, path: str, **headers: str):
        async with self.client.get(path, headers=headers) as response:
            await response.read()
            return response


@pytest.fixture
async def desk():
    registry, parts = CollectorRegistry(), {"listener": Part("ok"), "store": Part("ok")}

    async def explain(stream: str, campaign: str) -> object | None:
        return {"campaign": campaign} if stream == "support" else None

    async def told(_request: web.Request) -> web.Response:
        return web.json_response({})

    console = page_routes(told)
    async with TestClient(
        TestServer(admin_application(lambda: parts, collecting(registry), explain, console))
    ) as client:
        yield Desk(client, registry, parts)


@pytest.mark.parametrize("listener", ["ok", "degraded", "down"])
async def test_livez_says_only_that_the_process_answers(desk, listener):
    desk.parts["listener"] = Part(listener, "whatever")
    response = await desk.get("/livez")
    assert (response.status, await response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("listener", "store", "status", "overall"),
    [
        pytest.param("ok", "ok", 200, "ready", id="all-well"),
        pytest.param("ok", "degraded", 200, "degraded", id="promise-8-it-serves-with-less"),
        pytest.param("down", "ok", 503, "not ready", id="promise-9-not-ready-while-stopping"),
        pytest.param("down", "degraded", 503, "not ready", id="the-worst-counts"),
        pytest.param("degraded", "down", 503, "not ready", id="in-any-order"),
    ],
)
async def test_readyz_is_as_good_as_its_worst_part(desk, listener, store, status, overall):
    desk.parts.update(listener=Part(listener), store=Part(store))
    response = await desk.get("/readyz")
    assert (response.status, (await response.json())["status"]) == (status, overall)


async def test_readyz_gives_a_reason_for_each_part(desk):
    desk.parts["store"] = Part("degraded", "redis: refused", "2026-11-27T10:00:00Z")
    assert (await (await desk.get("/readyz")).json())["parts"] == {
        "listener": {"status": "ok", "reason": None},
        "store": {"status": "degraded", "reason": "redis: refused", "since": "2026-11-27T10:00:00Z"},
    }


async def test_readyz_tells_the_present(desk):
    assert (await desk.get("/readyz")).status == 200
    desk.parts["listener"] = Part("down", "stopping")
    assert (await desk.get("/readyz")).status == 503
    desk.parts["listener"] = Part("ok")
    assert (await desk.get("/readyz")).status == 200


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/plain", "text/plain"),
        ("*/*", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ],
)
async def test_metrics_come_in_the_form_that_is_asked_for(desk, accept, content_type):
    Counter("campaign_gateway_things", "Things.", registry=desk.registry).inc(3)
    response = await desk.get("/metrics", Accept=accept)
    assert (response.status, response.content_type) == (200, content_type)
    text = await response.text()
    assert "campaign_gateway_things_total 3.0" in text
    assert text.endswith("# EOF\n") is (content_type == "application/openmetrics-text")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/nothing", 404), ("/v1/campaigns/c-1", 404)],
)
async def test_no_answer_names_a_version(desk, path, status):
    response = await desk.get(path)
    assert response.status == status
    assert response.headers.getall("Server") == ["campaign-gateway"]


async def test_nothing_here_can_be_written_to(desk):
    for path in ("/livez", "/readyz", "/metrics"):
        async with desk.client.post(path, data=b"x") as response:
            assert response.status == 405


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/explain/support/cd-1", 200),
        ("/explain/sales/cd-1", 404),
        ("/explain/support/..%2fcd-1", 404),
        ("/explain/support/cd%00", 404),
        ("/explain/support", 404),
    ],
)
async def test_explain_knows_streams_and_ids_that_can_be(desk, path, status):
    response = await desk.get(path)
    assert response.status == status
    if status == 200:
        assert await response.json() == {"campaign": "cd-1"}


async def test_the_root_names_the_pages_and_its_links_lead_there(desk):
    response = await desk.get("/")
    assert (response.status, response.content_type) == (200, "text/html")
    links = re.findall(r'href="([^"]+)"', await response.text())
    assert links == ["console", "console/state.json", "readyz", "livez", "metrics"]
    assert [(await desk.get(f"/{link}")).status for link in links] == [200] * 5
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("accepted", "coding"), [("gzip", "gzip"), ("deflate, gzip", "gzip"), ("identity", None), ("gzip;q=0", None)]
)
async def test_metrics_are_packed_for_whoever_accepts_that(desk, accepted, coding):
    Counter("calls", "Calls.", registry=desk.registry).inc()
    response = await desk.get("/metrics", **{"Accept-Encoding": accepted})
    assert response.headers.get("Content-Encoding") == coding
    assert "calls_total 1.0" in await response.text()


@pytest.mark.parametrize(
    "path", ["", "/console.css", "/console.js", "/draw.js", "/overview.js", "/campaigns.js", "/screens.js"]
)
async def test_the_console_is_our_own_and_may_load_nothing_else(desk, path):
    response = await desk.get(f"/console{path}")
    assert response.status == 200
    assert response.headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    text = await response.text()
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []
    assert re.findall(r"<style| style=| on[a-z]+=|innerHTML|<script(?! type=\"module\" src=)", text) == []
