"""Our counters beside the client library's own: a scrape cannot tell them apart."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from campaign_gateway.telemetry.counters import CounterFamily, HistogramFamily
from campaign_gateway.telemetry.metrics import Metrics

BOUNDS = (0.5, 1, 2.5)
VALUES = st.floats(0, 10) | st.sampled_from(BOUNDS)


def page(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), VALUES), max_size=30))
def test_a_page_is_the_librarys(events):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts, spreads = (
        CounterFamily("x_total", "Text.", ["of"], ours),
        HistogramFamily("y", "Text.", ["of"], BOUNDS, ours),
    )
    counter = Counter("x_total", "Text.", ["of"], registry=theirs)
    histogram = Histogram("y", "Text.", ["of"], buckets=BOUNDS, registry=theirs)
    for label, value in events:
        counts(label).inc()
        spreads(label).observe(value)
        counter.labels(label).inc()
        histogram.labels(label).observe(value)
    assert page(ours) == page(theirs)


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 100_000)), min_size=1, max_size=20))
def test_a_hit_is_a_request_and_an_answer_from_an_entry(events):
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    hits = one.hits("get", "reporting", 304)
    for seconds, age in events:
        hits.hit(seconds, age)
        other.request("get", "reporting", 304, "hit", seconds)
        other.served("get", age)
    assert page(one.registry) == page(other.registry)
