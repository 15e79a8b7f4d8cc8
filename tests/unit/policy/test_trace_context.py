import pytest

from campaign_gateway.policy.trace_context import TraceContext, read_trace_context

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", TraceContext(TRACE, SPAN, is_sampled=True), id="sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", TraceContext(TRACE, SPAN, is_sampled=False), id="not-sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-02", TraceContext(TRACE, SPAN, is_sampled=False), id="another-flag"),
        pytest.param(f"00-{TRACE}-{SPAN}-ff", TraceContext(TRACE, SPAN, is_sampled=True), id="all-flags"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-more", TraceContext(TRACE, SPAN, is_sampled=True), id="a-later-version"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01", TraceContext(TRACE, SPAN, is_sampled=True), id="a-later-one-as-short"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01more", None, id="a-later-one-with-long-flags"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-more", None, id="too-long-for-version-0"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", None, id="the-version-that-there-is-not"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", None, id="no-trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", None, id="no-span"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", None, id="upper-case"),
        pytest.param(f"00-{TRACE}-{SPAN}", None, id="no-flags"),
        pytest.param(f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01", None, id="two"),
        pytest.param(f" 00-{TRACE}-{SPAN}-01", None, id="a-space-before-it"),
        pytest.param(f"00-{TRACE}-{SPAN}-01\n", None, id="a-line-behind-it"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_traceparent_is_read_as_the_standard_has_it(traceparent, expected):
    assert read_trace_context(traceparent) == expected


def test_the_state_is_handed_on_as_it_is():
    found = read_trace_context(f"00-{TRACE}-{SPAN}-01", "vendor=1,other=2")
    assert found is not None
    assert found.state == "vendor=1,other=2"
