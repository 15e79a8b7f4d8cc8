"""A real process and a collector: what arrives there, also what was begun just before the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from campaign_gateway.sandbox.platform import Sandbox
from tests.support.gateway import gateway_process, settings_for
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CLIENT = 2, 3


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            named = {row.key: row.value.string_value for row in resource.resource.attributes}
            self.services.add(named["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response()

    def of(self, kind: int) -> list[Any]:
        return [span for span in self.spans if span.kind == kind]


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.add_routes([web.post("/v1/traces", collector.take)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("workers", [1, 2])
async def test_spans_reach_the_collector_the_last_ones_at_the_end(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path, workers: int
) -> None:
    campaign = sandbox.campaigns.all()[0].id
    settings = settings_for(sandbox, tmp_path, workers=workers, cache={"url": redis.url}, sweep={"share": 0})
    async with collecting() as collector:
        # Nothing is sent before the end by itself.
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
        async with gateway_process(settings, tmp_path, variables) as gateway:
            for _ in range(4):
                asked = {"traceparent": f"00-{TRACE}-{PARENT}-01", "Connection": "close"}
                assert (await gateway.get(campaign, **asked))[0] == 200
            accepted = {"Accept": "application/openmetrics-text; version=1.0.0"}
            async with gateway.session.get(f"{gateway.admin_url}/metrics", headers=accepted) as response:
                assert f'# {{trace_id="{TRACE}"}}' in await response.text()
            gateway.terminate()
            await asyncio.wait_for(gateway.process.wait(), 30)
            lines = [line for line in gateway.records() if line["message"] == "request"]
    assert collector.services == {"campaign-gateway"}
    requests, calls = collector.of(SERVER), collector.of(CLIENT)
    assert len(requests) == 4
    assert {span.trace_id.hex() for span in [*requests, *calls]} == {TRACE} == {line["trace_id"] for line in lines}
    assert {span.parent_span_id.hex() for span in requests} == {PARENT}
    assert len(calls) == 1
    assert {call.parent_span_id for call in calls} <= {span.span_id for span in requests}
    said = str(collector.spans)
    assert campaign not in said
    assert sandbox.config.stream_id not in said
    assert sandbox.config.account_id not in said


@pytest.mark.drill(
    "a collector of traces that is gone",
    planted="a port that nobody listens on, and headers that cannot be read",
    seen="one line without what the variables hold, a count of lost spans, no request that fails",
)
async def test_a_collector_that_is_gone_costs_one_line_and_no_request(sandbox: Sandbox, tmp_path: Path) -> None:
    gone = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_HEADERS": "a secret that is no list of headers",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    settings = settings_for(sandbox, tmp_path, sweep={"share": 0})
    async with gateway_process(settings, tmp_path, gone) as gateway:
        campaign = sandbox.campaigns.all()[0].id
        assert (await gateway.get(campaign))[0] == 200

        async def is_told() -> bool:
            return await gateway.metric("spans_total", outcome="lost") > 0

        await until(is_told)
        assert (await gateway.get(campaign))[0] == 200
        gateway.terminate()
        await asyncio.wait_for(gateway.process.wait(), 30)
    assert not any("a secret" in line for line in gateway.log)
    assert sum("spans are lost" in line for line in gateway.log) == 1
    assert not any("opentelemetry" in line or "urllib3" in line for line in gateway.log)
