"""Logs on standard error: one JSON object per line, or text for people.

`error` means somebody should look now, `warning` that something changed for the worse, `info` is a request or a change
of state. Nothing here prints headers, bodies, query strings or the text of a parser's error: those may hold a key. What
looks like a phone number is masked wherever it comes from: callers choose ids, those of requests among them.
"""

import asyncio
import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import msgspec
from typing_extensions import override

from campaign_gateway.policy.trace_context import TraceContext
from campaign_gateway.proxy.ports import HitLog
from campaign_gateway.telemetry.access import AccessLines
from campaign_gateway.telemetry.spool import Spool, SpoolHandler

Level = Literal["debug", "info", "warning", "error"]

STANDARD_ERROR = 2
FLUSH_SECONDS = 0.02
"""How long the line of a hit may wait for others, to be written with them."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


class _TimeText:
    """The moment of a line as text. Most lines share their second with the one before."""

    def __init__(self) -> None:
        self._last = (-1, "")

    def text(self, moment: float) -> str:
        """ISO 8601 in UTC, to the millisecond."""
        whole = int(moment)
        second, prefix = self._last
        if second != whole:
            prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
            self._last = whole, prefix
        return f"{prefix}.{int((moment - whole) * 1000):03d}+00:00"


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; a dictionary in `extra={"fields": ...}` becomes members of their own."""

    def __init__(self, **fields: object) -> None:
        """A formatter that puts these members into each line."""
        super().__init__()
        self._fields = fields
        self._time = _TimeText()

    @override
    def format(self, record: logging.LogRecord) -> str:
        if hasattr(record, LINES):
            return record.getMessage()
        line: dict[str, Any] = {
            "time": self._time.text(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage()),
            **self._fields,
            **_masked(getattr(record, "fields", {})),
        }
        if record.exc_info:
            line["exception"] = mask(self.formatException(record.exc_info))
        return self.render(line)

    def render(self, line: Mapping[str, Any]) -> str:
        """The members, masked already, as they are written."""
        return _line(line)


class TextFormatter(JsonFormatter):
    """The same members for people: time, level and message, then `name=value`, and a traceback below."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if hasattr(record, LINES):
            text = "\n".join(self.render(msgspec.json.decode(line)) for line in text.splitlines())
        return text

    @override
    def render(self, line: Mapping[str, Any]) -> str:
        members = dict(line)
        moment, level, message = members.pop("time"), members.pop("level"), members.pop("message")
        traceback = str(members.pop("exception", "")).split("\n")
        del members["logger"]
        named = (f"{name}={_plain(value)}" for name, value in members.items())
        first = " ".join((moment, f"{level:7}", _plain(message, is_prose=True), *named))
        return "\n    ".join((first, *(_plain(row, is_prose=True) for row in traceback if row)))


def _plain(value: object, *, is_prose: bool = False) -> str:
    """The value as text that steers no terminal; in quotes where it could be misread; prose may have spaces."""
    text = str(value)
    is_plain = text.isprintable() and (is_prose or not re.search(r'[\s"=]|^$', text))
    return text if is_plain else json.dumps(text)


def _line(line: Mapping[str, Any]) -> str:
    """ASCII with escapes: whatever a message holds, the line can be written."""
    try:
        encoded = _encode(line)
        if encoded.isascii():
            return encoded.decode("ascii")
    except UnicodeEncodeError:
        # Half a surrogate pair, which only the slower encoder finds.
        pass
    return json.dumps(line, default=str, separators=(",", ":"))


LINES = "holds_lines"
"""An attribute of records whose message is whole lines already, as `JsonFormatter` would make them."""


class HitLines(HitLog):
    """The lines of hits, put together from parts and handed to their logger many at a time."""

    def __init__(
        self, name: str = "campaign_gateway.requests", access: AccessLines | None = None, **fields: object
    ) -> None:
        """Lines of this logger, for the answers that `access` wants, with these members in each, as `set_up` has them.

        None wants what the default settings want.
        """
        self._log = logging.getLogger(name)
        self.want(AccessLines() if access is None else access)
        opening = {"logger": name, "message": "request", **fields}
        self._info, self._warning = (
            _members({"level": level, **opening}) + b'"request_id":"' for level in ("info", "warning")
        )
        self._time = _TimeText()
        self._until = float("-inf")
        self._opening = self._opening_warning = b""
        self._is_info_wanted = True
        self._parts: list[bytes] = []

    def want(self, access: AccessLines) -> None:
        """Has lines for the answers that this one wants, from the next one on."""
        self._stands_for, self._wants = access.hit, access.other

    @override
    def caller(self, fields: Mapping[str, object]) -> bytes:
        return b'",' + _members(fields) + b'"campaign":"'

    @override
    def campaign(self, campaign: str) -> bytes:
        return mask(campaign).encode("ascii")

    @override
    def answer(self, fields: Mapping[str, object]) -> bytes:
        return b'",' + _members(fields) + b'"age":'

    @override
    def ageless(self, fields: Mapping[str, object]) -> bytes:
        return b'",' + _members(fields).removesuffix(b",")

    @override
    def stands_for(self, status: int, seconds: float, *, is_hit: bool) -> int:
        return self._stands_for(time.perf_counter(), seconds) if is_hit else int(self._wants(status, seconds))

    @override
    def hit(
        self,
        request_id: bytes,
        caller: bytes,
        campaign: bytes,
        answer: bytes,
        age: bytes,
        ended: float,
        seconds: float,
        trace: TraceContext | None = None,
        *,
        refused: int | None = None,
    ) -> None:
        if ended >= self._until:
            self._begin_moment(ended)
        if refused is not None:
            count = int(self._wants(refused, seconds))
        else:
            count = self._stands_for(ended, seconds) if self._is_info_wanted else 0
        if not count:
            return
        if request_id[0] in _MAY_BEGIN_NUMBER:
            request_id = mask(request_id.decode("ascii")).encode("ascii")
        if trace is not None:
            caller = b'","trace_id":"%b%b' % (trace.trace_id.encode("ascii"), caller)
        hundredths = int(seconds * 100_000)
        took = _HUNDREDTHS[hundredths] if hundredths < _KNOWN_HUNDREDTHS else _took(seconds * 1000)
        parts = self._parts
        if not parts:
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        if count > 1:
            took = b'%b,"stands_for":%d}\n' % (took[:-2], count)
        opening = self._opening if refused is None else self._opening_warning
        parts += (opening, request_id, caller, campaign, answer, age, took)

    def _begin_moment(self, ended: float) -> None:
        """Renders what lines of the same millisecond have in common."""
        self._is_info_wanted = self._log.isEnabledFor(logging.INFO)
        now = time.time()
        self._until = ended + (int(now * 1000) + 1) / 1000 - now
        text = self._time.text(now).encode("ascii")
        self._opening = b'{"time":"%b",%b' % (text, self._info)
        self._opening_warning = b'{"time":"%b",%b' % (text, self._warning)

    def flush(self) -> None:
        """Hands over what has come together, if the logger wants it."""
        parts, self._parts = self._parts, []
        if not self._log.isEnabledFor(logging.WARNING):
            return
        for first in range(0, len(parts), _AT_ONCE):
            text = b"".join(parts[first : first + _AT_ONCE]).decode("ascii").removesuffix("\n")
            record = self._log.makeRecord(self._log.name, logging.INFO, "", 0, text, (), None, extra={LINES: True})
            self._log.handle(record)


def _members(fields: Mapping[str, object]) -> bytes:
    return _line(_masked(fields))[1:-1].encode("ascii") + b","


def _took(milliseconds: float) -> bytes:
    """The end of a line."""
    return b',"milliseconds":%.2f}\n' % milliseconds


_KNOWN_HUNDREDTHS = 1_000
_HUNDREDTHS = [_took(number / 100) for number in range(_KNOWN_HUNDREDTHS)]
"""The ends of lines, by hundredths of a millisecond."""
_PARTS = 7
"""Of one line."""
_AT_ONCE = _PARTS * 100
"""Parts of lines that are handed over together: 30 kB, which the allocator has at hand."""
_MAY_BEGIN_NUMBER = frozenset(b"0123456789tTsSpPmM")
"""What a request's id begins with if a part of it is masked: no character of ids may stand before a number."""


def mask(text: str) -> str:
    """The text without phone numbers. Digits inside an id or a word are none."""
    # A simpler search shows at a fraction of the price that most texts hold none.
    return _PHONE_NUMBER.sub("(number)", text) if _MANY_DIGITS.search(text) is not None else text


_PHONE_NUMBER = re.compile(
    r"(?<![\w.:/-])(?:(?:tel|sms|phone|mobile|msisdn)[-_.:/])?\+?\d{7,15}(?![\w-])", re.IGNORECASE
)
_MANY_DIGITS = re.compile(r"\d{7}")
"""Without so many in a row there is no number to mask."""


def _masked(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: mask(value) if isinstance(value, str) else value for name, value in fields.items()}


def set_up(
    stream: TextIO | None = None,
    level: Level = "info",
    format: Literal["json", "text"] | None = None,  # noqa: A002 - the setting's name
    **fields: object,
) -> None:
    """Sends all logging of the process through one formatter, with these members in each line.

    Args:
        stream: where lines go; None for standard error, for whose reader nobody waits.
        level: the least one that is written.
        format: None writes text on a terminal, and JSON anywhere else.
        **fields: members of each line.
    """
    handler: logging.StreamHandler[Any] = SpoolHandler(_SPOOL) if stream is None else logging.StreamHandler(stream)
    is_text = format == "text" or (format is None and (stream or sys.stderr).isatty())
    handler.setFormatter(TextFormatter(**fields) if is_text else JsonFormatter(**fields))
    _SPOOL.is_shared = "worker" in fields
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # What no line shows need not be found out for each of them (logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - the HOWTO's own way to skip finding the caller
    # A library's warning, of a key that is too short say, is a line like any other.
    logging.captureWarnings(capture=True)
    # aiohttp's own logger writes the offending line of a bad request, an Authorization header perhaps.
    logging.getLogger("aiohttp.server").addFilter(_drop_lines_of_requests)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def dropped_lines() -> int:
    """Lines that were not written so far, since nobody read standard error."""
    return _SPOOL.dropped


_SPOOL = Spool(STANDARD_ERROR)


def _drop_lines_of_requests(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Error handling request")
