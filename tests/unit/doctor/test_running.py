"""What the doctor makes of a gateway that runs by the settings that it looks at."""

import pytest

from campaign_gateway.doctor.findings import Status
from campaign_gateway.doctor.running import Running, ask, judge, look_at_gateway
from campaign_gateway.settings import Address
from tests.support.wire import Exchange, free_port, raw_server


@pytest.mark.parametrize(
    ("running", "status", "found"),
    [
        pytest.param(None, Status.SKIPPED, "no gateway answers there", id="none"),
        pytest.param(Running("ready"), Status.OK, "ready", id="says-no-turn"),
        pytest.param(Running("ready", {}, 0.0042), Status.OK, "ready, longest turn of its loop 4 ms", id="well"),
        pytest.param(Running("ready", {}, 0.0512), Status.WARNING, "ready, longest turn of its loop 51 ms", id="held"),
        pytest.param(
            Running("degraded", {"store": "redis: timeout"}, 0.001),
            *(Status.WARNING, "degraded, store: redis: timeout, longest turn of its loop 1 ms"),
            id="degraded",
        ),
    ],
)
def test_it_is_as_well_as_it_says(running, status, found):
    finding = judge("127.0.0.1:9090", running)
    assert (finding.status, finding.found) == (status, found)
    assert bool(finding.advice) is (status is Status.WARNING)


async def test_where_no_port_is_named_nothing_is_asked():
    assert await look_at_gateway(Address("127.0.0.1", 0)) == []


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b"SSH-2.0\r\n", b""])
async def test_whatever_else_answers_is_no_gateway(said):
    async def answer(exchange: Exchange) -> None:
        exchange.writer.write(said)
        exchange.writer.close()

    async with raw_server(answer) as server:
        assert await ask(server.url) is None
    assert await ask(f"http://127.0.0.1:{free_port()}") is None
