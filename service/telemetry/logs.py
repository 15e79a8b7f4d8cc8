"""Logs: one JSON object per line on standard error.

`error` means somebody should look now, `warning` that something changed for the worse, `info` is a request or a change
of state. Nothing here prints headers, bodies, query strings or the text of a parser's error: those may hold a key.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from typing_extensions import override


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; a dictionary in `extra={"fields": ...}` becomes members of their own."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # ASCII with escapes: whatever a message holds, the line can be written.
        return json.dumps(line, default=str)


def set_up(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Sends all logging of the process through `JsonFormatter`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
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
