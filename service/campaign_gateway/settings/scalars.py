"""The values that settings are made of, each with its spelling and the sentence that refuses a wrong one."""

import ipaddress
import re
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema
from typing_extensions import override  # typing.override comes with Python 3.12

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SIZES = {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}


def _with_unit(units: dict[str, float], example: str) -> BeforeValidator:
    pattern = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(units)})")

    def read(value: Any) -> float:
        match = pattern.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"needs a number with a unit ({', '.join(units)}), such as {example}")
        return float(match[1]) * units[match[2]]

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


Duration = Annotated[float, _with_unit(_UNITS, "250ms or 30s"), _spell(_UNITS), _describe(_UNITS, zero=True)]
"""Seconds, written with a unit."""
PositiveDuration = Annotated[Duration, Field(gt=0), _describe(_UNITS)]
Size = Annotated[int, _with_unit(_SIZES, "4MiB"), _spell(_SIZES), Field(gt=0), _describe(_SIZES)]
"""Bytes, written with a unit."""


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
    if match is None or int(match[3]) > 65535:  # noqa: PLR2004 - the highest TCP port
        raise ValueError("needs host:port, such as 127.0.0.1:8080")
    return Address(match[1] or match[2], int(match[3]))


_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d+)?")


def _port_is_one(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def read_origin(value: str) -> str:
    """The scheme, host and port of a URL that has nothing else."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not _HOST_PORT.fullmatch(parts.netloc) or not _port_is_one(parts):
        raise ValueError("needs http:// or https:// and a host, without user or password")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("is the platform's host only, without a path")
    return f"{parts.scheme}://{parts.netloc}"


def read_proxy(value: str) -> str:
    """The host and port of a proxy that is spoken to in plain HTTP, and asked to connect."""
    if not value.lower().startswith("http://"):
        raise ValueError("needs http:// and the proxy's host and port; what goes through it is encrypted all the same")
    return read_origin(value)


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

_CLUSTER_URL = re.compile(r"redis\+cluster://[A-Za-z0-9._-]+:\d+(,[A-Za-z0-9._-]+:\d+)*/?")
_SENTINEL_URL = re.compile(r"redis\+sentinel://[A-Za-z0-9._-]+:\d+(,[A-Za-z0-9._-]+:\d+)*/[A-Za-z0-9._-]+(/\d+)?")


def read_cache_url(value: str) -> str:
    """The URL, if it is of a form that `store.connect` takes."""
    parts = urlsplit(value)
    if parts.query and not (parts.scheme == "unix" and re.fullmatch(r"db=\d{1,5}", parts.query)):
        # redis-py takes options from there, over those that are set: time-outs, and whether certificates are checked.
        raise ValueError(f"takes no options: {_setting_for(parts.query)}")
    if _SENTINEL_URL.fullmatch(value) or _CLUSTER_URL.fullmatch(value):
        return value
    if value == "memory://" or (parts.scheme == "unix" and len(parts.path) > 1):
        return value
    has_server = parts.scheme in {"redis", "rediss"} and parts.hostname is not None
    if has_server and _port_is_one(parts) and re.fullmatch(r"(/\d*)?", parts.path):
        return value
    raise ValueError(
        "needs memory://, redis:// or rediss://host:port/db, unix:///path, redis+sentinel://host:port,host:port/master,"
        " or redis+cluster://host:port,host:port"
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
Alias = Annotated[str, StringConstraints(pattern=ALIAS_PATTERN)]
"""A name of ours: stands in paths and metric labels."""
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=253)]
PlatformId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
Scope = Literal["read", "write", "purge"]
