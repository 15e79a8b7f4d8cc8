"""The values that settings are made of, each with its spelling and the sentence that refuses a wrong one."""

import ipaddress
import math
import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema
from typing_extensions import override  # typing.override comes with Python 3.12

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SIZES = {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}


def _with_unit(units: dict[str, float], what: str, example: str, most: str) -> BeforeValidator:
    pattern = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(units)})")

    def amount_of(text: str) -> float | None:
        match = pattern.fullmatch(text.strip())
        return None if match is None else float(match[1]) * units[match[2]]

    def read(value: Any) -> float:
        amount = amount_of(value) if isinstance(value, str) else None
        if amount is None:
            raise ValueError(f"is no {what}", f"write a number with a unit ({', '.join(units)}), such as {example}")
        if amount > ceiling:
            raise ValueError("is too large", f"write {most} or less")
        return amount

    ceiling = amount_of(most) or math.inf
    return BeforeValidator(read)


def _spell(units: dict[str, float]) -> PlainSerializer:
    def write(value: float) -> str:
        largest_first = sorted(units.items(), key=lambda row: -row[1])
        unit, size = next((row for row in largest_first if value and value % row[1] == 0), largest_first[-1])
        return f"{value / size:.15g}{unit}"

    return PlainSerializer(write, return_type=str, when_used="json")


def _describe(units: dict[str, float], *, zero: bool = False) -> WithJsonSchema:
    # The form as it is written, for schemas of files: of the number only the sign of life can be said there.
    pattern = rf"^\s*\d+(\.\d+)?\s*({'|'.join(units)})\s*$"
    return WithJsonSchema({"type": "string", "pattern": pattern} | ({} if zero else {"allOf": [{"pattern": "[1-9]"}]}))


Duration = Annotated[
    float, _with_unit(_UNITS, "time", "250ms or 30s", "3650d"), _spell(_UNITS), _describe(_UNITS, zero=True)
]
"""Seconds, written with a unit."""
PositiveDuration = Annotated[Duration, Field(gt=0), _describe(_UNITS)]
Size = Annotated[int, _with_unit(_SIZES, "size", "4MiB", "1024GiB"), _spell(_SIZES), Field(gt=0), _describe(_SIZES)]
"""Bytes, written with a unit."""


def _read_lifetime(seconds: float) -> float:
    if not LEAST_LIFETIME_SECONDS <= seconds <= MOST_LIFETIME_SECONDS:
        raise ValueError("is too short or too long for the platform", "write 10s to 1h")
    return seconds


LEAST_LIFETIME_SECONDS, MOST_LIFETIME_SECONDS = 10.0, 3600.0
TokenLifetime = Annotated[PositiveDuration, AfterValidator(_read_lifetime)]


def _refuse_flag(value: Any) -> Any:
    # Python's own kind for true and false counts as a number.
    if isinstance(value, bool):
        raise ValueError("is true or false, not a number", "write a number, without quotes")  # noqa: TRY004 - as said of others
    return value


def _refuse_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError("is a number, neither true nor false", "write true or false")  # noqa: TRY004 - as said of others
    return value


MOST_COUNT = 10**9
Count = Annotated[int, Field(ge=0, le=MOST_COUNT), BeforeValidator(_refuse_flag)]
PositiveCount = Annotated[int, Field(ge=1, le=MOST_COUNT), BeforeValidator(_refuse_flag)]
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(_refuse_flag)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_refuse_flag)]
Flag = Annotated[bool, BeforeValidator(_refuse_number)]


class Rate(NamedTuple):
    """So many in so many seconds."""

    requests: int
    seconds: float

    @override
    def __str__(self) -> str:
        return f"{self.requests}/{_PERIODS[self.seconds]}"


_PERIODS = {1.0: "s", 60.0: "m", 3600.0: "h"}
_RATE = r"([1-9]\d{0,8})/([smh])"


def _read_rate(value: Any) -> Rate:
    match = re.fullmatch(_RATE, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("is no rate", "write a number for a second, a minute or an hour, such as 200/s or 600/m")
    return Rate(int(match[1]), _UNITS[match[2]])


RateField = Annotated[
    Rate,
    BeforeValidator(_read_rate),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_RATE}$"}),
]


_MOMENT = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?([Zz]|[+-]\d\d:\d\d)?)?"


def _read_moment(value: Any) -> datetime:
    # Unquoted, YAML reads a date or a time.
    text = value.isoformat() if isinstance(value, date) else value
    try:
        moment = datetime.fromisoformat(text if re.fullmatch(_MOMENT, text) else "")
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("is no date", "write one such as 2027-02-01, or a time such as 2027-02-01T12:00:00Z") from None


Moment = Annotated[
    datetime,
    BeforeValidator(_read_moment),
    PlainSerializer(lambda moment: f"{moment:%Y-%m-%dT%H:%M:%SZ}", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_MOMENT}$"}),
]
"""A date, which is its first moment, or a time; in UTC unless it says otherwise."""


class Address(NamedTuple):
    """Where a server listens; port 0 takes any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @override
    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_ADDRESS = r"(?:\[([0-9A-Fa-f:]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})"


def _read_address(value: Any) -> Address:
    match = re.fullmatch(_ADDRESS, value) if isinstance(value, str) else None
    if match is None or int(match[3]) > 65535 or not _is_host(match[1], match[2]):  # noqa: PLR2004 - the highest TCP port
        raise ValueError("is no address", "write host:port, such as 127.0.0.1:8080 or [::1]:8080")
    return Address(match[1] or match[2], int(match[3]))


def _is_host(ipv6: str | None, name: str) -> bool:
    """Whether a host that looks like an IP address is one."""
    if ipv6 is None and not re.fullmatch(r"[\d.]+", name):
        return True
    try:
        ipaddress.ip_address(name if ipv6 is None else ipv6)
    except ValueError:
        return False
    return True


_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d+)?")


def _port_is_one(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def _split(url: str) -> SplitResult:
    """The parts of the URL, all of them empty where it has brackets that are none of an address."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def read_origin(value: str) -> str:
    """The scheme, host and port of a URL that has nothing else."""
    parts = _split(value)
    if parts.scheme not in {"http", "https"} or not _HOST_PORT.fullmatch(parts.netloc) or not _port_is_one(parts):
        raise ValueError("is no URL of a host", "write http:// or https:// and a host, without user or password")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("has more than a host", "write it without a path, a query or a fragment")
    return f"{parts.scheme}://{parts.netloc}"


def read_proxy(value: str) -> str:
    """The host and port of a proxy that is spoken to in plain HTTP, and asked to connect."""
    if not value.lower().startswith("http://"):
        raise ValueError(
            "is no URL of a proxy",
            "write http://host:port, without user or password; what goes through it is encrypted all the same",
        )
    return read_origin(value)


def read_target(value: str) -> str:
    """A URL to send to, with its path; it names no user, for URLs are shown."""
    parts = _split(value)
    if parts.scheme not in {"http", "https"} or not _HOST_PORT.fullmatch(parts.netloc) or not _port_is_one(parts):
        raise ValueError(
            "is no URL to send to", "write http:// or https://, a host and a path, without user or password"
        )
    if parts.fragment or not re.fullmatch(r"[!-~]+", value):
        raise ValueError("has a fragment, or characters that no URL has", "encode them, or leave them out")
    return value


def host_is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    parts = urlsplit(url)
    return Address(parts.hostname or "", 0).is_loopback


def _read_version(value: Any) -> Any:
    # Unquoted, YAML reads a number.
    return str(value) if isinstance(value, float) else value


TlsVersion = Annotated[
    Literal["1.2", "1.3"], BeforeValidator(_read_version), WithJsonSchema({"enum": ["1.2", "1.3", 1.2, 1.3]})
]

_SERVER = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}"
_CLUSTER_URL = re.compile(rf"redis\+cluster://{_SERVER}(?:,{_SERVER})*/?")
_SENTINEL_URL = re.compile(rf"redis\+sentinel://{_SERVER}(?:,{_SERVER})*/[A-Za-z0-9._-]+(?:/\d+)?")


def read_cache_url(value: str) -> str:
    """The URL, if it is of a form that `store.connect` takes."""
    parts = _split(value)
    if parts.query and not (parts.scheme == "unix" and re.fullmatch(r"db=\d{1,5}", parts.query)):
        # redis-py takes options from there, over those that are set: time-outs, and whether certificates are checked.
        raise ValueError("takes no options", _setting_for(parts.query))
    if _SENTINEL_URL.fullmatch(value) or _CLUSTER_URL.fullmatch(value):
        return value
    if value == "memory://" or (parts.scheme == "unix" and len(parts.path) > 1):
        return value
    has_server = parts.scheme in {"redis", "rediss"} and parts.hostname is not None
    if has_server and _port_is_one(parts) and re.fullmatch(r"(/\d*)?", parts.path):
        return value
    raise ValueError(
        "is no URL of a Redis",
        "write memory://, redis:// or rediss://host:port/db, unix:///path, redis+sentinel://host:port,host:port/master,"
        " or redis+cluster://host:port,host:port",
    )


def _setting_for(query: str) -> str:
    name = query.partition("=")[0].lower()
    for beginning, setting in _SETTINGS_FOR.items():
        if name.startswith(beginning):
            return f"set {setting}"
    return "the settings under cache say all that can be said"


_SETTINGS_FOR = {
    "db": "the number in the path",
    "socket_": "cache.timeout",
    "timeout": "cache.timeout",
    "username": "cache.username",
    "password": "cache.password_file",
    "ssl": "cache.tls and rediss://",
}


def hide_password(url: str) -> str:
    """The URL with its password, if it has one, masked."""
    parts = urlsplit(re.sub(r"(?i)(password=)[^&#]*", r"\1***", url))
    if parts.password is None:
        return urlunsplit(parts) if parts.query else url
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{parts.netloc.rpartition('@')[2]}"))


_ADDRESS_SCHEMA = {"type": "string", "pattern": f"^{_ADDRESS}$"}
AddressField = Annotated[
    Address,
    BeforeValidator(_read_address),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema(_ADDRESS_SCHEMA),
]


def _spell_addresses(addresses: tuple[Address, ...]) -> str | list[str]:
    return str(addresses[0]) if len(addresses) == 1 else list(map(str, addresses))


AddressesField = Annotated[
    tuple[Address, ...],
    BeforeValidator(lambda value: tuple(map(_read_address, value if isinstance(value, list) else [value]))),
    Field(min_length=1),
    PlainSerializer(_spell_addresses, when_used="json"),
    WithJsonSchema({"anyOf": [_ADDRESS_SCHEMA, {"type": "array", "items": _ADDRESS_SCHEMA, "minItems": 1}]}),
]
"""One address, or a list of them."""
ALIAS_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
HASH_PATTERN = r"^[0-9a-fA-F]{64}$"
HOST_PATTERN = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
ID_PATTERN = r"^[A-Za-z0-9_-]{1,128}$"
NOTE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$"
PREFIX_PATTERN = r"^[A-Za-z0-9._-]{1,32}$"
Alias = Annotated[str, StringConstraints(pattern=ALIAS_PATTERN)]
"""A name of ours: stands in paths and metric labels."""
Sha256 = Annotated[str, StringConstraints(pattern=HASH_PATTERN, to_lower=True)]
Note = Annotated[str, StringConstraints(pattern=NOTE_PATTERN)]
"""Stands in metric labels."""
HostName = Annotated[str, StringConstraints(pattern=HOST_PATTERN, max_length=253)]
PlatformId = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Prefix = Annotated[str, StringConstraints(pattern=PREFIX_PATTERN)]
Scope = Literal["read", "write", "purge"]
ChangeTypeName = Literal[
    "campaign.created",
    "campaign.updated",
    "campaign.status-changed",
    "campaign.deleted",
    "stream.degraded",
    "stream.recovered",
]
StatusName = Literal[
    "Preparing",
    "Ready",
    "Scheduled",
    "Rescheduled",
    "Active",
    "Paused",
    "Stopped",
    "Completed",
    "Rerun",
    "Run as Emergency",
]
"""What the platform calls the states of a campaign."""
