"""Heads that are known: a request with one of them is answered without being parsed.

A head becomes a *pattern* when aiohttp has parsed it for the second time, and it was authorised and answered: it covers
all heads that are the same, byte for byte, but for the id, the request's id, the tags of a copy, the trace, and the
values of fields that mean nothing to an answer (those that do are `heads.MATTERS`). Mostly no more than the ids differ;
then what is around them need only be compared. Else an expression decides.
"""

import re
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import NamedTuple

from aiohttp import web

from campaign_gateway.policy.trace_context import TraceContext, read_trace_context
from campaign_gateway.web.grants import Grant
from campaign_gateway.web.heads import MATTERS, Sights, new_request_id

MAX_PATTERNS = 256
MAX_SIGHTS = 1_024
"""Patterns that are known to have been of use once."""
RENEWAL_SECONDS = 10.0
"""How often so many may be made anew: one takes as long as fifty hits."""
MAX_HEAD_BYTES = 4_096
MAX_REQUEST_ID_BYTES = 128

_LINE = b"\r\n"
_END = b"\r\n\r\n"
_VERSION = b" HTTP/1.1\r\n"
_FIELD = b"\r\nx-request-id: "
_ID = rb"(?P<id>[A-Za-z0-9_-]{1,128})"
_PLAIN = rb"[ -~]{0,1024}"
_READ_EACH_TIME = {
    b"x-request-id": rb"[ \t]*(?P<request_id>[A-Za-z0-9._:-]{1,128})[ \t]*",
    b"if-none-match": rb"[ \t]*(?P<tags>[!-~](?:[ -~]{0,1022}[!-~])?)[ \t]*",
    b"traceparent": rb"(?P<traceparent>" + _PLAIN + rb")",
    b"tracestate": rb"(?P<tracestate>" + _PLAIN + rb")",
}
_is_plain = re.compile(_PLAIN).fullmatch
_IN_REQUEST_IDS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-")
_REPLACED = bytes(byte if byte in _IN_REQUEST_IDS else ord("-") for byte in range(256))
"""For `translate`, which changes whatever may not stand in a request's id."""

Lookup = Coroutine[None, None, bytes | None]
"""An answer that is waited for."""


class Literals(NamedTuple):
    """A head without the id that it asks for and the request's."""

    before: bytes
    between: bytes
    """Empty where the request has no id, or not as most write it."""
    after: bytes


def literals_of(head: bytes) -> Literals:
    """Those of a head that is written as most are; those of other bytes equal none of a head."""
    end = head.find(_VERSION)
    start = head.rfind(b"/", 0, end) + 1
    field = head.lower().find(_FIELD, end)
    if field < 0:
        return Literals(head[:start], b"", head[end:])
    first = field + len(_FIELD)
    return Literals(head[:start], head[end:first], head[head.find(_LINE, first) :])


class HeadPattern:
    """A head that was answered here, and all that differ from it in what may vary only."""

    __slots__ = (
        *("_answered", "_find", "_grant", "_last", "_least", "_literals", "_match", "_now", "_rendered", "_request_id"),
        *("_skip", "_start", "_state", "_store_epoch", "_tags", "_trace", "_write", "_writers", "epoch"),
    )

    def __init__(
        self,
        expression: bytes,
        literals: Literals,
        grant: Grant,
        find: Callable[[bytes], "HeadPattern | None"],
    ) -> None:
        compiled = re.compile(expression)
        self.epoch = grant.epoch
        self._grant, self._write, self._find = grant, grant.write, find
        self._now, self._store_epoch, self._writers, self._answered = grant.validity
        self._match = compiled.fullmatch
        self._request_id = compiled.groupindex.get("request_id", 0)
        self._tags = compiled.groupindex.get("tags", 0)
        self._trace = compiled.groupindex.get("traceparent", 0)
        self._state = compiled.groupindex.get("tracestate", 0)
        # Copies are compared, and whoever has limits of its own is counted, before there is a hit. What is not written
        # as usual, and to what trace it belongs, the expression reads.
        is_usual = bool(literals.between) == bool(self._request_id) and not self._trace
        self._rendered = grant.rendered if is_usual and not self._tags and grant.limits is None else {}
        self._literals = literals
        self._start, self._skip, self._last = len(literals.before), len(literals.between), -len(literals.after)
        self._least = min(1, self._skip)

    def answer(self, data: bytes) -> bytes | Lookup | None:
        """The whole answer to `data`, if that is this head and there is a hit for it, or a refusal; it counts as given.

        To be waited for where the hit is not local; None, then too, where there is none.
        """
        began, (before, between, after), start = perf_counter(), self._literals, self._start
        end = data.find(b" ", start)
        rendered = self._rendered.get(data[start:end])
        request_id = data[end + self._skip : self._last]
        if (
            rendered is None
            or not self._least <= len(request_id) <= MAX_REQUEST_ID_BYTES
            or request_id.translate(_REPLACED) != request_id
            or not data.startswith(between, end)
            or not data.startswith(before)
            or not data.endswith(after)
        ):
            return self._answer_otherwise(data, began)
        now, hit, epoch = self._now(), rendered.hit, self._store_epoch
        if not self._writers.held_until <= now < hit.until or hit.epoch != epoch.number or now >= epoch.until:
            return self._answer_otherwise(data, began)
        self._answered.value += 1
        age = now - hit.validated_at
        return self._write(rendered, age, request_id or new_request_id().encode(), None, began)

    def _answer_otherwise(self, data: bytes, began: float) -> bytes | Lookup | None:
        """The same for a head that differs in more than its ids, or a hit that has to be looked at."""
        found, grant = self._match(data), self._grant
        if found is None:
            # Whoever passes requests on has those of several callers on one connection.
            other = self._find(data)
            return None if other is None or other is self or other.epoch != self.epoch else other.answer(data)
        if grant.limits is not None and grant.limits.is_spent(began):
            # The whole road says why.
            return None
        request_id = found[self._request_id] if self._request_id else new_request_id().encode()
        tags = found[self._tags].decode("ascii") if self._tags else None
        asked = found[1], request_id, tags, began, self._trace_of(found) if self._trace else None
        answer = grant.answer(*asked) or grant.find(*asked)
        if grant.limits is not None and answer is not None:
            grant.limits.take(began)
        return answer

    def _trace_of(self, found: re.Match[bytes]) -> TraceContext | None:
        state = found[self._state].strip().decode("ascii") if self._state else ""
        return read_trace_context(found[self._trace].strip().decode("ascii"), state)


class HeadPatterns:
    """The patterns of one server."""

    def __init__(self) -> None:
        self._patterns: dict[bytes, HeadPattern] = {}
        self._by_literals: dict[Literals, HeadPattern] = {}
        self._sights = Sights(MAX_SIGHTS)
        self._renewed_at = float("-inf")

    def find(self, head: bytes) -> HeadPattern | None:
        """The pattern of heads that are equal to this one but for their ids, on any connection; None for none."""
        return self._by_literals.get(literals_of(head)) if len(head) <= MAX_HEAD_BYTES else None

    def learn(self, head: bytes, http: web.BaseRequest, grant: Grant) -> HeadPattern | None:
        """The pattern that this head makes when it comes again; None for the first time, and where there is none.

        Args:
            head: the whole read that the request came in.
            http: as aiohttp parsed it.
            grant: the request's.
        """
        known = self.find(head)
        if known is not None and known.epoch == grant.epoch:
            return known
        expression = _expression(head, http) if len(head) <= MAX_HEAD_BYTES else None
        if expression is None:
            return None
        pattern = self._patterns.get(expression)
        if pattern is not None and pattern.epoch == grant.epoch:
            return pattern
        if pattern is None and not self._sights.is_again(expression):
            return None
        if pattern is None and len(self._patterns) >= MAX_PATTERNS:
            now = perf_counter()
            if now - self._renewed_at < RENEWAL_SECONDS:
                return None
            self._renewed_at = now
            self._patterns.clear()
            self._by_literals.clear()
        literals = literals_of(head)
        pattern = self._patterns[expression] = HeadPattern(expression, literals, grant, self.find)
        if grant.limits is None:
            # A client with limits of its own may have no more than so many connections.
            self._by_literals[literals] = pattern
        return pattern


def _expression(head: bytes, http: web.BaseRequest) -> bytes | None:
    """What heads like this one match; None where the parser has read another one than is seen here."""
    line = f"{http.method} {http.raw_path}".encode("utf-8", "surrogateescape")
    if not head.startswith(line + _VERSION):
        return None
    parts = [re.escape(line[: line.rindex(b"/") + 1]) + _ID + re.escape(_VERSION.removesuffix(_LINE))]
    fields = head[len(line) + len(_VERSION) : -len(_END)].split(_LINE)
    if len(fields) != len(http.raw_headers) or len({name.lower() for name, _ in http.raw_headers}) != len(fields):
        return None
    for field, (name, value) in zip(fields, http.raw_headers, strict=True):
        written, _, text = field.partition(b":")
        if written != name or text.strip(b" \t") != value:
            return None
        varies = _READ_EACH_TIME.get(name.lower())
        if varies is None and name.lower() not in MATTERS and _is_plain(text):
            varies = _PLAIN
        parts.append(re.escape(field) if varies is None else re.escape(name) + b":" + varies)
    return _LINE.join(parts) + _END
