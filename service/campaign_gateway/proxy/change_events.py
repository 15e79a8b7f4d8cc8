"""Changes as whoever is told of them gets them: CloudEvents 1.0 in JSON, each with its cursor as its id."""

from datetime import UTC, datetime
from zlib import crc32

import msgspec

from campaign_gateway.proxy.change_window import Entry, Position
from campaign_gateway.proxy.request import Stream

RESET = "read again what you hold: what has changed since your last event is not kept"

_encode = msgspec.json.Encoder().encode


def tag_of(stream: Stream) -> str:
    """What tells one stream's cursors from another's; nothing has to be hidden by it."""
    return f"{crc32(stream.identity.encode()):08x}"


def write_cursor(stream: Stream, log: str, position: Position) -> str:
    """The cursor of this position in the stream's log of that name."""
    return f"{tag_of(stream)}-{log}-{position[0]}-{position[1]}"


def rendered(entry: Entry, stream: Stream, log: str) -> bytes:
    """The entry, made once for all who listen."""
    if (event := entry.rendered.get(stream.alias)) is None:
        event = entry.rendered[stream.alias] = _encode(_event_of(entry, stream, log))
    return event


def rendered_reset(id_: str, stream: Stream, now: float) -> bytes:
    """What is said, under this id, in place of changes that are not kept."""
    event = {
        "specversion": "1.0",
        "id": id_,
        "source": f"/v1/streams/{stream.alias}",
        "type": "reset",
        "time": _time(now),
        "datacontenttype": "application/json",
        "data": {"detail": RESET},
    }
    return _encode(event)


def _event_of(entry: Entry, stream: Stream, log: str) -> dict[str, object]:
    change = entry.change
    data = {
        "name": change.name,
        "status": change.status,
        "previousStatus": change.previous_status,
        "channel": change.channel,
        "updatedAt": change.updated_at,
        "seenBy": change.seen_by,
        "reason": change.reason,
    }
    event = {
        "specversion": "1.0",
        "id": write_cursor(stream, log, entry.position),
        "source": f"/v1/streams/{stream.alias}",
        "type": change.type,
        "subject": change.campaign,
        "time": _time(change.at),
        "datacontenttype": "application/json",
        "data": {name: value for name, value in data.items() if value is not None},
    }
    return {name: value for name, value in event.items() if value is not None}


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
