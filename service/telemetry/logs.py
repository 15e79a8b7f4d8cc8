"""Logs: one JSON object per line on standard error.

`error` means somebody should look now, `warning` that something changed for the worse, `info` is a request or a change
of state. Nothing here prints headers, bodies, query strings or the text of a parser's error: those may hold a key. What
looks like a phone number is masked wherever it comes from: callers choose ids, those of requests among them.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from typing_extensions import override


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; a dictionary in `extra={"fields": ...}` becomes members of their own."""

    def __init__(self, **fields: object) -> None:
        """A formatter that puts these members into each line."""
        super().__init__()
        self._fields = fields

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage()),
            **self._fields,
            **{name: mask(value) if isinstance(value, str) else value for name, value in _fields(record).items()},
        }
        if record.exc_info:
            line["exception"] = mask(self.formatException(record.exc_info))
        # ASCII with escapes: whatever a message holds, the line can be written.
        return json.dumps(line, default=str)


def mask(text: str) -> str:
    """The text without phone numbers. Digits inside an id or a word are none."""
    return _PHONE_NUMBER.sub("(number)", text)


_PHONE_NUMBER = re.compile(r"(?<![\w.:/-])(?:[A-Za-z]{1,16}[-_.:/])?\+?\d{7,15}(?![\w-])")


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


def set_up(stream: TextIO = sys.stderr, level: int = logging.INFO, **fields: object) -> None:
    """Sends all logging of the process through `JsonFormatter`, with these members in each line."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(**fields))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # A library's warning, of a key that is too short say, is a line like any other.
    logging.captureWarnings(capture=True)
    # aiohttp's own logger writes the offending line of a bad request, an Authorization header perhaps.
    logging.getLogger("aiohttp.server").addFilter(_drop_lines_of_requests)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _drop_lines_of_requests(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Error handling request")
