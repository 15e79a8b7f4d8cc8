"""Our counters beside the client library's own: a scrape cannot tell them apart."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from campaign_gateway.policy.trace_context import TraceContext
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


def exemplars(registry: CollectorRegistry) -> list[tuple[str, str, float]]:
    """Bound, trace and value of each, as a scrape for OpenMetrics reads them."""
    families = text_string_to_metric_families(openmetrics.generate_latest(registry).decode())
    samples = [sample for family in families for sample in family.samples]
    return [(row.labels["le"], row.exemplar.labels["trace_id"], row.exemplar.value) for row in samples if row.exemplar]


def test_a_range_shows_the_last_value_of_which_somebody_recorded_a_trace():
    metrics = Metrics(CollectorRegistry())
    traces = [TraceContext(f"{number:032x}", "b" * 16, is_sampled=number != 4) for number in range(1, 5)]
    for trace, seconds in zip([*traces, None], (0.003, 0.7, 0.004, 0.6, 0.65), strict=True):
        metrics.request("get", "reporting", 200, "miss", seconds, trace)
    assert exemplars(metrics.registry) == [("0.005", f"{3:032x}", 0.004), ("1.0", f"{2:032x}", 0.7)]
    assert "trace_id" not in "".join(page(metrics.registry)), "the plain form has no place for them"
