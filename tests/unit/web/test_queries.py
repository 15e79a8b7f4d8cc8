from typing import Any

import pytest

from campaign_gateway.web import queries
from campaign_gateway.web.queries import read_query
from campaign_gateway.web.rejected import RejectedError

HERE = "the parameters here are campaignName, limit, type"
KNOWN = {"type": queries.choice("voice", "sms"), "limit": queries.whole(1, 100), "campaignName": queries.name}


def test_parameters_are_read_by_their_readers():
    assert read_query("limit=7&type=sms", KNOWN) == {"limit": 7, "type": "sms"}
    assert read_query("", KNOWN) == {}
    assert read_query("campaignName=a+b%2Bc%26d%3De", KNOWN) == {"campaignName": "a b+c&d=e"}
    assert read_query("%74ype=sms", KNOWN) == {"type": "sms"}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("x=1", f"unknown parameter x; {HERE}"),
        ("Type=sms", f"unknown parameter Type: did you mean type? {HERE}"),
        ("limt=1", f"unknown parameter limt: did you mean limit? {HERE}"),
        ("limit[]=1", f"unknown parameter limit[]: did you mean limit? {HERE}"),
        ("campaign_name=a", f"unknown parameter campaign_name: did you mean campaignName? {HERE}"),
        ("&", f"unknown parameter; {HERE}"),
        ("limit%0d%0a=1", f"unknown parameter; {HERE}"),
        (f"{'limit' * 13}=1", f"unknown parameter; {HERE}"),
        ("type=sms&type=sms", "type is given twice"),
        ("type=fax", "type is one of voice, sms"),
        ("type", "type is one of voice, sms"),
        ("limit=0", "limit is a whole number from 1 to 100"),
        ("limit=101", "limit is a whole number from 1 to 100"),
        ("limit=1e1", "limit is a whole number from 1 to 100"),
        ("limit=%D9%A3", "limit is a whole number from 1 to 100"),
        ("limit=-1", "limit is a whole number from 1 to 100"),
        ("limit=" + "9" * 5000, "limit is a whole number from 1 to 100"),
        ("campaignName=%FF%00", "campaignName is a name of 1 to 256 printable characters"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_its_value_not_repeated(query, told):
    with pytest.raises(RejectedError) as refused:
        read_query(query, KNOWN)
    assert str(refused.value) == told


def test_a_list_may_be_given_name_by_name():
    known = {"ids": queries.id_list, "fields": queries.field_names, "type": queries.choice("sms")}
    assert read_query("ids=a&fields=x&ids=b%2Cc&fields=y", known) == {
        "ids": ("a", "b", "c"),
        "fields": frozenset({"x", "y"}),
    }
    assert read_query("sort=name&sort=-updatedAt", {"sort": queries.sorting}) == {
        "sort": {"name": "asc", "updatedAt": "desc"}
    }
    with pytest.raises(RejectedError, match="ids is a list"):
        read_query("ids=a&ids=", known)


def test_where_there_are_no_parameters_that_is_told():
    with pytest.raises(RejectedError, match="unknown parameter a: there are no parameters here"):
        read_query("a=b", {})


def test_what_is_needed_is_told():
    with pytest.raises(RejectedError, match="campaignName is needed"):
        read_query("type=sms", KNOWN, frozenset({"campaignName"}))


@pytest.mark.parametrize(
    ("reader", "value", "read"),
    [
        (queries.field_names, "name,status,name", frozenset({"name", "status"})),
        (queries.id_list, "b,a,b", ("b", "a", "b")),
        (queries.words, "Ready,Run as Emergency", ["Ready", "Run as Emergency"]),
        (queries.numbers, "1,5,05", [1, 5, 5]),
        (queries.sorting, "-updatedAt,name", {"updatedAt": "desc", "name": "asc"}),
        (queries.date, "2026-01-31", "2026-01-31"),
        (queries.date, "2026-01-31T09:30:00.000Z", "2026-01-31T09:30:00.000Z"),
        (queries.date, "2026-01-31 09:30:00+02:00", "2026-01-31 09:30:00+02:00"),
        (queries.name, "Caf\u00e9 | 5/7", "Caf\u00e9 | 5/7"),
    ],
)
def test_a_reader_reads(reader, value, read: Any):
    assert reader(value) == read


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        *((queries.field_names, value) for value in ["", ",", "a,", "a.b", "a" * 65, ",".join(["a"] * 51)]),
        *((queries.id_list, value) for value in ["", ",", "a,", "a.b", "a/b", "a b", "a" * 129, ",".join(["a"] * 101)]),
        *((queries.words, value) for value in ["", ",", "1", "a" * 41, "a-b", "\u00e9", " a"]),
        *((queries.numbers, value) for value in ["", ",", "a", "100", "-1", "1.0", "\u0663"]),
        *((queries.sorting, value) for value in ["", "-", "--name", "name,-name", "status", "name,", "NAME"]),
        *((queries.date, value) for value in ["", "soon", "2026-13-01", "1770000000", "2026-01-01\udcff00:00:00"]),
        *((queries.date, value) for value in ["2026-01-01x00:00", "2026-01-01\n00:00", "\u0662026-01-01"]),
        *((queries.name, value) for value in ["", "a\n", "\udcff", "a\u2028b", "a" * 257]),
    ],
)
def test_a_reader_refuses(reader, value):
    with pytest.raises(ValueError, match=r"^[ -~]+$"):
        reader(value)
