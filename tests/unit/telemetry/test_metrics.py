import asyncio
import inspect
import re
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from campaign_gateway import __version__
from campaign_gateway.admin.probes import Families
from campaign_gateway.proxy.ports import Meter, RequestMeter
from campaign_gateway.telemetry.metrics import PREFIX, TURN_SECONDS, Metrics
from tests.support.doubles import begun
from tests.support.virtual_time import virtual_time


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Values by name without our prefix, and labels; as Prometheus reads them."""
    page = generate_latest(Families(asyncio.run(metrics.collect()))).decode()
    return {
        (sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, tuple(sorted(labels.items()))))


def test_every_name_has_our_prefix_and_every_family_a_sentence(metrics):
    exercise(metrics)
    families = asyncio.run(metrics.collect())
    assert all(family.name.startswith(PREFIX) for family in families)
    assert all(re.fullmatch(r"[A-Z].+\.", family.documentation) for family in families)


def exercise(metrics: Metrics) -> None:
    """One of each event."""
    metrics.request("get", "reporting", 200, "hit", 0.004)
    metrics.served("get", 12.0)
    metrics.upstream_call("support", "get", "uri-miss", "ok", 0.3)
    metrics.budget_wait("interactive", 0.0)
    metrics.collapsed("process")
    metrics.store_operation("memory", "get", "hit")
    metrics.store_operations("memory", "get", "hit").value += 1
    metrics.validation("read", "changed")
    metrics.change_visible("support", 7.0)
    metrics.change("support", "campaign.updated", 3.0)
    metrics.change("support", "campaign.deleted", None)
    metrics.gauges.add("budget_remaining", "Calls that the account could make now.", lambda: 7, account="acc-1")


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("requests_total", {"operation": "get", "client": "reporting", "status": "200", "cache": "hit"}, 1),
        ("request_duration_seconds_count", {"operation": "get", "cache": "hit"}, 1),
        ("request_duration_seconds_sum", {"operation": "get", "cache": "hit"}, 0.004),
        ("served_age_seconds_sum", {"operation": "get"}, 12),
        ("change_visible_seconds_sum", {"stream": "support"}, 7),
        ("change_visible_seconds_bucket", {"stream": "support", "le": "6.0"}, 0),
        ("change_visible_seconds_bucket", {"stream": "support", "le": "8.0"}, 1),
        ("campaign_changes_total", {"stream": "support", "type": "campaign.updated"}, 1),
        ("campaign_changes_total", {"stream": "support", "type": "campaign.deleted"}, 1),
        ("change_delay_seconds_count", {"stream": "support"}, 1),
        ("change_delay_seconds_sum", {"stream": "support"}, 3),
        (
            "upstream_requests_total",
            {"stream": "support", "operation": "get", "reason": "uri-miss", "outcome": "ok"},
            1,
        ),
        ("upstream_request_duration_seconds_sum", {"operation": "get"}, 0.3),
        ("budget_wait_seconds_count", {"lane": "interactive"}, 1),
        ("collapsed_requests_total", {"scope": "process"}, 1),
        ("store_operations_total", {"store": "memory", "operation": "get", "outcome": "hit"}, 2),
        ("proofs_total", {"kind": "read", "outcome": "changed"}, 1),
        ("budget_remaining", {"account": "acc-1"}, 7),
        ("build_info", {"version": __version__}, 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_event_is_counted_under_the_name_and_labels_that_design_7_promises(metrics, name, labels, expected):
    exercise(metrics)
    assert value(metrics, name, **labels) == expected


def test_events_with_equal_labels_add_up_and_others_stand_apart(metrics):
    for status in (200, 200, 404):
        metrics.request("get", "reporting", status, "hit", 0.1)
    counted = {
        dict(labels)["status"]: number
        for (name, labels), number in samples(metrics).items()
        if name == "requests_total"
    }
    assert counted == {"200": 2, "404": 1}


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.0004, "0.0005"), (0.0005, "0.0005"), (0.0006, "0.001"), (9.0, "10.0"), (11.0, "+Inf")]
)
def test_a_request_falls_into_the_first_bucket_that_holds_it(metrics, seconds, bucket):
    metrics.request("get", "reporting", 200, "hit", seconds)
    rows = {
        dict(labels)["le"]: number
        for (name, labels), number in samples(metrics).items()
        if name == "request_duration_seconds_bucket"
    }
    assert next(bound for bound in sorted(rows, key=float) if rows[bound]) == bucket


def test_the_oldest_age_that_may_be_served_has_a_bucket_of_its_own(metrics):
    metrics.served("get", 86_400.0)
    assert value(metrics, "served_age_seconds_bucket", operation="get", le="86400.0") == 1
    assert value(metrics, "served_age_seconds_bucket", operation="get", le="21600.0") == 0


def test_many_gauges_are_read_with_turns_for_others_in_between(metrics):
    with virtual_time() as loop:

        def read() -> float:
            loop.pass_time(0.001)
            return 1.0

        for number in range(100):
            metrics.gauges.add("entries", "Entries kept.", read, store=str(number))
        turns = []

        async def others() -> None:
            while True:
                turns.append(loop.time())
                await asyncio.sleep(0)

        async def scrape() -> int:
            beside = begun(others())
            families = await metrics.collect()
            beside.cancel()
            return len(next(family.samples for family in families if family.name == PREFIX + "entries"))

        assert loop.run_until_complete(scrape()) == 100
    assert max(later - earlier for earlier, later in pairwise(turns)) <= 2 * TURN_SECONDS
    assert len(turns) >= 10


def test_a_gauge_is_read_when_it_is_asked_for(metrics):
    now = [3]
    metrics.gauges.add("entries", "Entries kept.", lambda: now[0], store="memory")
    assert value(metrics, "entries", store="memory") == 3
    now[0] = 5
    assert value(metrics, "entries", store="memory") == 5


def test_gauges_of_one_name_are_one_family(metrics):
    metrics.gauges.add("budget_remaining", "Calls left.", lambda: 1, account="a")
    metrics.gauges.add("budget_remaining", "Calls left.", lambda: 2, account="b")
    families = [family for family in asyncio.run(metrics.collect()) if family.name == PREFIX + "budget_remaining"]
    assert len(families) == 1
    assert value(metrics, "budget_remaining", account="b") == 2


def test_two_gateways_in_one_process_do_not_share_numbers():
    one, two = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    one.collapsed("process")
    assert value(one, "collapsed_requests_total", scope="process") == 1
    assert value(two, "collapsed_requests_total", scope="process") is None


@pytest.mark.parametrize("port", [Meter, RequestMeter])
def test_it_takes_everything_that_the_ports_tell(metrics, port):
    told = [name for name, _ in inspect.getmembers(port, inspect.isfunction) if not name.startswith("_")]
    assert told
    for name in told:
        assert inspect.signature(getattr(Metrics, name)) == inspect.signature(getattr(port, name))
