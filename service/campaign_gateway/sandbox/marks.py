"""Timestamps as the platform writes them: ISO 8601, UTC, milliseconds, `Z`."""

from datetime import UTC, datetime

_MILLISECOND = 0.001


def mark(at: float) -> str:
    """The mark of a moment.

    Args:
        at: Seconds since the epoch.

    Returns:
        Text such as `2026-02-03T14:05:11.214Z`.
    """
    # Rounded first: `timespec` cuts, and a cut would turn .214 into .213 where the float is a hair below.
    moment = datetime.fromtimestamp(round(at, 3), UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def moved(previous: str, at: float) -> str:
    """The mark of a moment, and never the same text as the previous mark.

    Two edits inside one millisecond would otherwise be one version, which the platform's own clock makes
    improbable and a test's frozen clock makes certain.
    """
    text = mark(at)
    return text if text != previous else mark(at + _MILLISECOND)


def moment(text: str) -> float:
    """Seconds since the epoch for a date or a timestamp; one without a zone is read as UTC.

    Raises:
        ValueError: The text is neither.
    """
    value = datetime.fromisoformat(text)
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
