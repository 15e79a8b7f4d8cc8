import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.contract.document import LARGE_BYTES, MOST_VALUES, DocumentError, content_digest, parse
from tests.support.builders import json_documents, shuffled
from tests.support.counting import python_calls

VALUES = 50_000
NESTING = [100, 500, 900]
"""Depths that the interpreter's own JSON reader takes, or may take."""


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("body", "document"),
    [
        pytest.param(b'{"a": [1, 2.5, "x", true, null]}', {"a": [1, 2.5, "x", True, None]}, id="rfc8259-3-values"),
        pytest.param(b"\xef\xbb\xbf{}", {}, id="rfc8259-8.1-byte-order-mark-skipped"),
        pytest.param(b" \r\n\t7 \n", 7, id="rfc8259-2-white-space-around"),
        pytest.param('"\u00e9\U0001f6a2"'.encode(), "\u00e9\U0001f6a2", id="rfc8259-8.1-utf-8"),
        pytest.param(b'{"a": {"b": 1}, "c": {"b": 2}}', {"a": {"b": 1}, "c": {"b": 2}}, id="one-key-in-two-objects"),
        pytest.param(b'"\\ud83d\\udea2"', "\U0001f6a2", id="rfc8259-7-surrogate-pair"),
    ],
)
def test_reads_json(body: bytes, document: Any):
    assert parse(body) == document


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html></html>", id="html"),
        pytest.param(b'{"status": "succ', id="cut"),
        pytest.param(b"{} {}", id="two-documents"),
        pytest.param(b'{"a": 1,}', id="trailing-comma"),
        pytest.param(b'{"a": NaN}', id="rfc8259-6-nan"),
        pytest.param(b"[Infinity]", id="rfc8259-6-infinity"),
        pytest.param(b"[-Infinity]", id="rfc8259-6-minus-infinity"),
        pytest.param(b"1e999", id="a-number-that-would-become-infinity"),
        pytest.param(b'{"a": 1, "a": 1}', id="repeated-key"),
        pytest.param(b'[{"x": {"a": 1, "\\u0061": 2}}]', id="repeated-key-inside-spelled-otherwise"),
        pytest.param('{"a": "b"}'.encode("utf-16"), id="rfc8259-8.1-utf-16"),
        pytest.param('{"a": "b"}'.encode("utf-32-be"), id="rfc8259-8.1-utf-32"),
        pytest.param('"\u00e9"'.encode("latin-1"), id="rfc8259-8.1-latin-1"),
        pytest.param(b'"\xed\xa0\x80"', id="rfc3629-3-surrogate-in-utf-8"),
        pytest.param(b"9" * 5000, id="5000-digits"),
        pytest.param(nested(100_000), id="deep-nesting"),
        pytest.param(b'{"a":' * 100_000, id="deep-nesting-cut"),
    ],
)
def test_refuses_what_is_not_one_document(body: bytes):
    with pytest.raises(DocumentError):
        parse(body)


@given(st.binary(max_size=60) | st.text(alphabet=string.printable, max_size=60).map(str.encode))
def test_bytes_are_a_document_or_a_document_error(body: bytes):
    try:
        parse(body)
    except DocumentError:
        return


@given(json_documents())
def test_what_is_written_is_read_back(document: Any):
    assert parse(json.dumps(document).encode()) == document


@given(json_documents())
def test_digest_ignores_order_white_space_and_number_spelling(document: Any):
    respelled = parse(json.dumps(shuffled(document), indent=3).encode())
    assert content_digest(respelled) == content_digest(parse(json.dumps(document, separators=(",", ":")).encode()))


@given(json_documents(), json_documents())
def test_digest_is_equal_only_for_equal_content(one: Any, other: Any):
    # `==` calls 1 and true equal, which the digest must not; so it is asked in one direction.
    if content_digest(one) == content_digest(other):
        assert one == other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(b'{"a": 1, "b": 2}', b'{"b":2,"a":1}', id="key-order"),
        pytest.param(b'[{"a": {"b": 1, "c": 2}}]', b'[{"a": {"c": 2, "b": 1}}]', id="key-order-inside"),
        pytest.param(b"[5]", b"[5.0]", id="5-and-5.0"),
        pytest.param(b"[5]", b"[5e0]", id="5-and-5e0"),
        pytest.param(b"[0]", b"[-0.0]", id="0-and-minus-0.0"),
        pytest.param(b"[0.5]", b"[0.50]", id="0.5-and-0.50"),
        pytest.param(b"[-12.5]", b"[-0.125E+2]", id="powers-of-ten"),
        pytest.param(b"[120]", b"[1.2e2]", id="whole-in-the-end"),
        pytest.param(b'"\\u00e9"', '"\u00e9"'.encode(), id="escaped-text"),
    ],
)
def test_spelling_does_not_change_the_digest(one: bytes, other: bytes):
    assert content_digest(parse(one)) == content_digest(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("5", 5, id="text-and-number"),
        pytest.param(True, 1, id="true-and-1"),
        pytest.param(False, 0, id="false-and-0"),
        pytest.param(True, 1.0, id="true-and-1.0"),
        pytest.param("true", True, id="text-and-true"),
        pytest.param(None, "null", id="null-and-text"),
        pytest.param([1, 2], [2, 1], id="list-order"),
        pytest.param({}, [], id="object-and-list"),
        pytest.param({"a": None}, {}, id="null-and-absent"),
        pytest.param({"a": "b"}, {"A": "b"}, id="case-of-a-key"),
        pytest.param("\u00e9", "e\u0301", id="composed-and-combining"),
        pytest.param(5, 5.5, id="5-and-5.5"),
        pytest.param("\ud800", "\ud801", id="lone-surrogates"),
    ],
)
def test_content_changes_the_digest(one: Any, other: Any):
    assert content_digest(one) != content_digest(other)
    assert content_digest({"a": [one]}) != content_digest({"a": [other]})


@pytest.mark.drill(
    "odd text and numbers",
    planted="byte order mark, half a surrogate pair, decimals beyond a double",
    seen="no 500, spelled as they were, a change is a change",
)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"[0.1]", b"[0.1000000000000000055511151231257827]"),
        (b"[9007199254740993.0]", b"[9007199254740992.0]"),
        (b"[1e-400]", b"[0.0]"),
        (b"[0.00000000000000000000000000000000000001]", b"[0.00000000000000000000000000000000000002]"),
        (b"[1.5]", b"[-1.5]"),
        (b"[1.5]", b'["1.5"]'),
    ],
)
def test_numbers_that_a_float_cannot_tell_apart_are_two(one: bytes, other: bytes):
    assert content_digest(parse(one)) != content_digest(parse(other))


def test_digest_is_the_same_in_every_process():
    # Pinned: entries of one release are compared with answers read by another.
    assert content_digest({"b": [1, 2.0], "a": "x"}).hex() == "6baef6ad1a99de7bed624637f6e391"
    odd = parse(b'{"b": [1.50, -2.5e-3, 12e2, "\\ud800", {"c": null}], "\\u00e9": {}, "a": 0.30000000000000001}')
    assert content_digest(odd).hex() == "fdaf7463ea610c79cc9f5a84c50e72"


@pytest.mark.drill("structure that takes long to read")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" + b",".join([b"1"] * VALUES) + b"]", id="numbers"),
        pytest.param(b'{"a": [' + b",".join([b'"x"'] * VALUES) + b"]}", id="text"),
        pytest.param(b"{" + b",".join(b'"%d": true' % number for number in range(VALUES)) + b"}", id="keys"),
    ],
)
def test_no_value_is_looked_at_by_itself_but_decimals(body: bytes) -> None:
    parse(b"{}")
    with python_calls() as calls:
        content_digest(parse(body))
    assert len(calls) < VALUES / 50


@pytest.mark.parametrize("depth", NESTING)
def test_what_can_be_read_can_be_digested(depth: int):
    try:
        document = parse(nested(depth))
    except DocumentError:
        return
    try:
        digest = content_digest(document)
    except RecursionError as error:
        pytest.fail(f"RecursionError: {error}", pytrace=False)
    assert digest != content_digest([])


@pytest.mark.drill(
    "structure that takes long to read",
    planted="4 MiB of brackets, numbers, keys and digits; filters of 1 MiB; batches of a hundred large campaigns",
    seen="counted before anything is made of it: a problem; what is left is read beside the loop",
)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" + b",".join([b"[]"] * MOST_VALUES) + b"]", id="lists"),
        pytest.param(b"[" + b",".join([b"1"] * (MOST_VALUES + 2)) + b"]", id="numbers"),
        pytest.param(b"{" + b",".join(b'"%d":1' % number for number in range(MOST_VALUES + 2)) + b"}", id="keys"),
        pytest.param(b"[" + b",".join([b"9" * 500] * 200) + b"]", id="digits"),
        pytest.param(b"[" * 100_000, id="depth"),
    ],
)
def test_dense_structure_is_refused_before_it_is_read(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> Any:
        raise AssertionError("it is read")

    if not body.startswith(b"[["):
        monkeypatch.setattr("campaign_gateway.contract.document.json.loads", read)
    with pytest.raises(DocumentError):
        parse(body)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"text": "x" * 10**6}, id="long-text"),
        pytest.param({"digits": ["1" * 300] * 1_000}, id="long-numbers-in-text"),
        pytest.param([{"id": number, "name": f"campaign {number}"} for number in range(40_000)], id="many-rows"),
    ],
)
def test_large_documents_are_read_and_digested_as_small_ones_are(document: Any) -> None:
    body = json.dumps(document).encode()
    assert len(body) > LARGE_BYTES
    assert parse(body) == document
    assert content_digest(parse(body)) == content_digest(document)
