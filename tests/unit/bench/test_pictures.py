"""Pictures are well-formed, whatever stands in them, and their values lie where their axes say."""

from xml.etree import ElementTree as ET

import pytest

from tests.bench import picture as hits
from tests.bench.freshness import picture as freshness
from tools.svg import Drawing, LogScale


def test_text_and_attributes_are_escaped():
    out = Drawing()
    out.text(1, 2, 'a < b & "c"', data_note='<"&')
    [_, _, text] = ET.fromstring(out.svg(10, 10, "<title>"))
    assert text.text == 'a < b & "c"'
    assert text.get("data-note") == '<"&'


def test_a_path_without_steps_is_left_out():
    out = Drawing()
    out.path([])
    assert len(ET.fromstring(out.svg(10, 10, "title"))) == 2


@pytest.mark.parametrize(("value", "pixels"), [(1, 100), (10, 200), (100, 300), (0, 100), (1000, 400)])
def test_a_decade_is_as_wide_everywhere(value: float, pixels: float):
    assert LogScale(1, 100, 100, 300)(value) == pytest.approx(pixels)


def test_each_server_has_a_bar_and_each_span_its_numbers():
    bars = [hits.Bar("a & b", 14.2, "70,000/s", is_ours=True), hits.Bar("c", 400, "2/s", is_ours=False)]
    drawn = ET.fromstring(hits.draw("hits", "note", bars))
    texts = {element.text for element in drawn}
    assert {"a & b", "14.2 us, 70,000/s", "400 us, 2/s"} <= texts
    group = freshness.Group("50", "25", [freshness.Span(3, 9, 70, is_open=True)])
    texts = {element.text for element in ET.fromstring(freshness.draw("t", "n", ["sweep"], [group]))}
    assert {"3.0 s", "9.0 s", ">70 s", "sweep"} <= texts
