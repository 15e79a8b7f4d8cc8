from datetime import UTC, datetime

import pytest

from campaign_gateway.contract.listing import Channel, ListPage, Row
from campaign_gateway.doctor import measures
from campaign_gateway.doctor.measures import Seen, SeenCampaign, SeenPage
from tests.support.builders import NOW

VOICE = Channel.VOICE


def stamp(ago):
    return datetime.fromtimestamp(NOW - ago, UTC).isoformat().replace("+00:00", "Z")


def row(id_, ago, **fields):
    return Row(id_, f"{ago}", stamp(ago), "Ready", {"updatedAt": stamp(ago), **fields})


def page(*rows, skip=0, total=None, has_more=False, at=NOW, is_newest_first=True):
    return SeenPage(VOICE, skip, 100, ListPage(tuple(rows), total, has_more), at, is_newest_first)


A, B, C, D = (row(name, ago) for name, ago in zip("abcd", (10.0, 20.0, 30.0, 40.0), strict=True))
E, F = row("e", 20.0), row("f", 20.0)


@pytest.mark.parametrize(
    ("pages", "is_honoured"),
    [
        ([page(A, B, C), page(C, B, A, is_newest_first=False)], True),
        ([page(A, C, B), page(C, B, A, is_newest_first=False)], False),
        ([page(A, B, C), page(A, B, C, is_newest_first=False)], False),
        ([page(A, B, total=4), page(B, A, total=4, is_newest_first=False)], False),
        ([page(A, B, total=4), page(D, C, total=4, is_newest_first=False)], True),
        ([page(A, B, E, total=6), page(F, B, A, total=6, is_newest_first=False)], False),
        ([page(A, B, E, total=6), page(F, E, B, total=6, is_newest_first=False)], None),
        ([page(A, B)], None),
        ([page(A)], None),
        ([page()], None),
    ],
    ids=[
        "both ways",
        "unsorted",
        "order ignored",
        "page by itself",
        "whole list",
        "same rows",
        "equal moments",
        "one way",
        "one row",
        "no row",
    ],
)
def test_the_order_is_told_by_pages_both_ways(pages, is_honoured):
    assert measures.sort_of(Seen(pages)) is is_honoured


@pytest.mark.parametrize(
    ("pages", "beyond"),
    [
        ([page(A, B, total=2)], 0),
        ([page(A, B, total=5)], 3),
        ([page(A, B, total=2, has_more=True)], -1),
        ([page(A, B, total=3, has_more=True)], None),
        ([page(A, B, total=3, has_more=True), page(C, skip=2, total=3), page(A, B, total=3, has_more=True)], 0),
        ([page(A, B, total=6, has_more=True), page(skip=5, total=6)], 1),
        ([page(A, B)], None),
        ([], None),
    ],
)
def test_what_the_total_counts_beyond_what_is_shown(pages, beyond):
    assert measures.hidden_of(Seen(pages), VOICE) == beyond


def lag(*pages, campaigns=()):
    return measures.lag_of(Seen(list(pages), list(campaigns)))


def test_a_lag_is_what_is_certain_of_it():
    # Changed seven seconds before the page was asked for, which does not show it.
    assert lag(campaigns=[SeenCampaign(B, NOW, {"updatedAt": stamp(7.0)})]) == pytest.approx(6.0)
    # Changed meanwhile, or the same, or another form.
    assert lag(campaigns=[SeenCampaign(B, NOW, {"updatedAt": stamp(-3.0)})]) == 0
    assert lag(campaigns=[SeenCampaign(B, NOW, {"updatedAt": stamp(20.0)})]) == 0
    assert lag(campaigns=[SeenCampaign(B, NOW, {"updatedAt": "yesterday"})]) == 0


def test_a_row_that_comes_after_its_time_shows_a_lag():
    late = row("c", 5.0)
    assert lag(page(A, B), page(late, A, B, at=NOW + 9)) == pytest.approx(4.0)
    assert lag(page(A, B), page(row("c", -5.0), A, B, at=NOW + 9)) == 0
    # It may have been on a later page, or anywhere.
    assert lag(page(A, C, B), page(late, A, B, at=NOW + 9)) == 0
    assert lag(page(A, B, has_more=True), page(A, B, row("c", 25.0), at=NOW + 9)) == 0


def test_a_difference_that_a_lag_explains_is_none():
    changed = {"updatedAt": stamp(7.0), "name": "new", "priority": "2"}
    assert measures.differences_of(Seen(campaigns=[SeenCampaign(row("a", 9.0, name="old"), NOW, changed)])) == ()
    same = {"updatedAt": stamp(9.0), "name": "new", "priority": "2"}
    seen = Seen(campaigns=[SeenCampaign(row("a", 9.0, name="old", priority="2"), NOW, same)])
    assert measures.differences_of(seen) == ("name",)
    other_form = Seen(campaigns=[SeenCampaign(row("a", 9.0), NOW, {"updatedAt": "yesterday"})])
    assert measures.differences_of(other_form) == ("updatedAt",)


def test_rows_are_granted_as_far_as_a_page_that_is_cut_shows():
    assert measures.granted_rows(Seen([page(A, B, C, total=3)])) is None
    assert measures.granted_rows(Seen([page(A, B, total=3, has_more=True)])) == 2
