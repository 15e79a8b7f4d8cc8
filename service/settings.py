"""The gateway's settings: one frozen tree, validated whole at start, from a YAML file and the environment.

Nothing else reads the environment, and nothing here keeps a secret: settings name the file or variable that holds one.
`load` either returns settings that can be run or raises every mistake it found, one line each, naming the key.
"""

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
)
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from typing_extensions import override  # typing.override comes with Python 3.12

ENVIRONMENT_PREFIX = "GATEWAY__"


class SettingsError(Exception):
    """The settings cannot be run. `mistakes` holds one line each: the key, a colon, what is wrong."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


# Scalars with a unit.

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


Duration = Annotated[float, _with_unit(_UNITS, "250ms or 30s"), _spell(_UNITS)]
"""Seconds, written with a unit."""
PositiveDuration = Annotated[Duration, Field(gt=0)]
Size = Annotated[int, _with_unit(_SIZES, "4MiB"), _spell(_SIZES), Field(gt=0)]
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


def _read_address(value: Any) -> Address:
    match = (
        re.fullmatch(r"(?:\[([0-9A-Fa-f:]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})", value) if isinstance(value, str) else None
    )
    if match is None or int(match[3]) > 65535:  # noqa: PLR2004 - the highest TCP port
        raise ValueError("needs host:port, such as 127.0.0.1:8080")
    return Address(match[1] or match[2], int(match[3]))


_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d+)?")


def _port_is_one(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def _read_origin(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not _HOST_PORT.fullmatch(parts.netloc) or not _port_is_one(parts):
        raise ValueError("needs http:// or https:// and a host, without user or password")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("is the platform's host only, without a path")
    return f"{parts.scheme}://{parts.netloc}"


_SENTINEL_URL = re.compile(r"redis\+sentinel://[A-Za-z0-9._-]+:\d+(,[A-Za-z0-9._-]+:\d+)*/[A-Za-z0-9._-]+(/\d+)?")


def _read_cache_url(value: str) -> str:
    parts = urlsplit(value)
    if value == "memory://" or _SENTINEL_URL.fullmatch(value) or (parts.scheme == "unix" and len(parts.path) > 1):
        return value
    has_server = parts.scheme in {"redis", "rediss"} and parts.hostname is not None
    if has_server and _port_is_one(parts) and re.fullmatch(r"(/\d*)?", parts.path):
        return value
    raise ValueError(
        "needs memory://, redis:// or rediss://host:port/db, unix:///path, or redis+sentinel://host:port,host:port/master"
    )


def hide_password(url: str) -> str:
    """The URL with its password, if it has one, masked."""
    parts = urlsplit(re.sub(r"(?i)(password=)[^&#]*", r"\1***", url))
    if parts.password is None:
        return urlunsplit(parts) if parts.query else url
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{parts.netloc.rpartition('@')[2]}"))


AddressField = Annotated[
    Address, BeforeValidator(_read_address), PlainSerializer(str, return_type=str, when_used="json")
]
ALIAS_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Alias = Annotated[str, StringConstraints(pattern=ALIAS_PATTERN)]
"""A name of ours: stands in paths and metric labels."""
PlatformId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
Scope = Literal["read", "write", "purge"]


class Section(BaseModel):
    """A part of the settings: frozen, and no key it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Platform(Section):
    """The upstream host and how long to wait for it."""

    url: Annotated[str, AfterValidator(_read_origin)] = "https://platform.kore.ai"
    timeout: PositiveDuration = 10.0
    connect_timeout: PositiveDuration = 2.0
    max_body: Size = 4 * 2**20


class Encryption(Section):
    """JWE: the signed token is encrypted for the platform."""

    public_key_file: Path
    key_id: str
    alg: Literal["RSA-OAEP"] = "RSA-OAEP"
    enc: Literal["A128CBC-HS256", "A128GCM", "A256GCM"] = "A256GCM"


class Credential(Section):
    """A JWT app of the platform."""

    client_id: str
    client_secret_file: Path | None = None
    client_secret_env: str | None = None
    private_key_file: Path | None = None
    algorithm: Literal["HS256", "HS512", "RS256", "RS512"] = "HS256"
    subject: str = "campaign-gateway"
    token_lifetime: Annotated[PositiveDuration, Field(ge=10, le=3600)] = 600.0
    jti: bool = False
    jwe: Encryption | None = None

    @property
    def is_symmetric(self) -> bool:
        """Whether it signs with a shared secret rather than an RSA key."""
        return self.algorithm.startswith("HS")


class Stream(Section):
    """A platform application under a short alias."""

    stream_id: PlatformId
    account_id: PlatformId
    app_id: PlatformId | None = None
    credential: Alias
    default: bool = False


Share = Annotated[float, Field(ge=0, le=1)]


class Lanes(Section):
    """The part of a budget that each lane can count on; the other lanes borrow what is beyond."""

    writes: Share = 0.0
    interactive: Share = 0.0
    proof: Share = 0.0
    background: Share = 0.0


class Budget(Section):
    """Calls per window for one account; `reserve` of them are kept for callers who wait."""

    calls: Annotated[int, Field(ge=1)] = 60
    window: PositiveDuration = 60.0
    reserve: Annotated[int, Field(ge=0)] | None = None
    """None keeps one call in twelve."""
    lanes: Lanes = Lanes()

    @property
    def kept(self) -> int:
        """Calls of a window that background work leaves alone."""
        return self.calls // 12 if self.reserve is None else self.reserve


class Client(Section):
    """An internal caller: the SHA-256 of its key, and what it may do."""

    key_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
    streams: Annotated[frozenset[Alias], Field(min_length=1)]
    scopes: frozenset[Scope] = frozenset({"read"})


class CacheTls(Section):
    """Files for TLS to Redis, beyond the system's authorities."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class Cache(Section):
    """Where entries are kept."""

    url: Annotated[
        str, AfterValidator(_read_cache_url), PlainSerializer(hide_password, return_type=str, when_used="json")
    ] = "memory://"
    username: str | None = None
    password_file: Path | None = None
    tls: CacheTls | None = None
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,32}$")] = "cg"
    timeout: PositiveDuration = 0.25
    local_max_bytes: Size = 64 * 2**20
    local_unwatched: Duration = 1.0
    """How long a local copy may answer without Redis while invalidations by other replicas cannot be heard."""
    replicas: Annotated[int, Field(ge=1)] = 1
    """How many replicas share the budget, for as long as Redis cannot be asked; then those seen count."""


class StatusFreshness(Section):
    """Clamps for campaigns of one status; `max` can only be narrower than the general one."""

    min: PositiveDuration | None = None
    max: PositiveDuration | None = None


class FreshnessSettings(Section):
    """How long entries are fresh and how old they may get; see `policy.freshness`."""

    factor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    min: Duration = 5.0
    max: PositiveDuration = 600.0
    default: Duration = 30.0
    status: dict[str, StatusFreshness] = Field(
        default={"Active": {"max": "15s"}, "Preparing": {"max": "5s"}}, validate_default=True
    )
    missing: Duration = 10.0
    stale_while_revalidate: Duration = 60.0
    stale_if_error: PositiveDuration = 86_400.0


class Shutdown(Section):
    """How a SIGTERM is honoured: not ready at once, no new connections after `drain`, the end within `grace`."""

    drain: Duration = 1.0
    grace: PositiveDuration = 20.0


class Settings(Section):
    """The whole tree, in the order of the README."""

    listen: AddressField = Address("127.0.0.1", 8080)
    admin_listen: AddressField = Address("127.0.0.1", 9090)
    allow_anonymous: bool = False
    platform: Platform = Platform()
    credentials: dict[Alias, Credential]
    streams: Annotated[dict[Alias, Stream], Field(min_length=1)]
    budgets: dict[str, Budget] = {}
    clients: dict[Alias, Client] = {}
    cache: Cache = Cache()
    freshness: FreshnessSettings = FreshnessSettings()
    shutdown: Shutdown = Shutdown()

    @property
    def default_stream(self) -> str | None:
        """The alias used where a path names no stream."""
        marked = [alias for alias, stream in self.streams.items() if stream.default]
        if marked:
            return marked[0]
        return next(iter(self.streams)) if len(self.streams) == 1 else None

    def budget_of(self, account: str) -> Budget:
        """The budget of one account: its own, or the default."""
        return self.budgets.get(account) or self.budgets.get("default") or Budget()

    @classmethod
    def checked(cls, tree: Mapping[str, Any]) -> Self:
        """Settings out of a plain tree.

        Raises:
            SettingsError: with all mistakes of form, or else all mistakes between keys.
        """
        try:
            settings = cls.model_validate(tree)
        except ValidationError as error:
            raise SettingsError([_line(row["loc"], row["type"], row["msg"]) for row in error.errors()]) from None
        mistakes = [f"{key}: {text}" for key, text in _cross_checks(settings)]
        if mistakes:
            raise SettingsError(mistakes)
        return settings


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings in the file, with the environment's on top.

    Args:
        path: a YAML file; None takes `GATEWAY_CONFIG`, and without that the environment alone.
        environ: `GATEWAY__SECTION__KEY` variables are read as YAML scalars or flow collections.

    Raises:
        SettingsError: the file is unreadable, or the settings hold mistakes.
    """
    if path is None and "GATEWAY_CONFIG" in environ:
        path = Path(environ["GATEWAY_CONFIG"])
    tree = _read_file(path) if path is not None else {}
    for name, text in sorted(environ.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            _lay_over(tree, name, text)
    return Settings.checked(tree)


def secret_from_environment(name: str) -> str:
    """The value of a variable that `client_secret_env` names; empty when it is not set."""
    return os.environ.get(name, "").strip()


def _read_file(path: Path) -> dict[str, Any]:
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: not YAML: {_first_line(error)}"]) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError([f"{path}: needs to be a mapping of settings"])
    return tree


def _first_line(error: Exception) -> str:
    # The parser's own words quote the file, and what they quote may be a secret.
    problem = "a key is written twice" if isinstance(error, DuplicateKeyError) else "it cannot be parsed"
    mark = getattr(error, "problem_mark", None)
    where = f" (line {mark.line + 1})" if mark is not None else ""
    return f"{problem}{where}"


def _lay_over(tree: dict[str, Any], name: str, text: str) -> None:
    *sections, key = name.removeprefix(ENVIRONMENT_PREFIX).split("__")
    for part in sections:
        section = _key_meant(tree, part)
        if tree.get(section) is None:
            tree[section] = {}
        inner = tree[section]
        if not isinstance(inner, dict):
            raise SettingsError([f"{name}: {section} is no section"])
        tree = inner
    try:
        tree[_key_meant(tree, key)] = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        raise SettingsError([f"{name}: not a YAML value"]) from None


def _key_meant(tree: Mapping[str, Any], part: str) -> str:
    """The key that a part of a variable's name stands for: one that is there, in whatever case, or a new one."""
    there = next((key for key in tree if str(key).lower() == part.lower()), None)
    if there is not None:
        return there
    return part.lower() if part.isupper() else part


def _line(location: tuple[int | str, ...], kind: str, message: str) -> str:
    key = ".".join(str(part) for part in location if part != "[key]") or "settings"
    match kind:
        case "extra_forbidden":
            return f"{key}: unknown key"
        case "missing":
            return f"{key}: missing"
        case _:
            return f"{key}: {message.removeprefix('Value error, ')}"


def _cross_checks(settings: Settings) -> Iterator[tuple[str, str]]:
    """Mistakes that show only when two keys are held side by side, or a file is looked at."""
    yield from _check_addresses(settings)
    for name, credential in settings.credentials.items():
        yield from _check_credential(f"credentials.{name}", credential)
    yield from _check_streams(settings)
    accounts = {stream.account_id for stream in settings.streams.values()}
    for account, budget in settings.budgets.items():
        if account != "default" and account not in accounts:
            yield f"budgets.{account}", "no stream has this account_id"
        if budget.kept >= budget.calls:
            yield f"budgets.{account}.reserve", "must be below calls"
        if sum(budget.lanes.model_dump().values()) > 1:
            yield f"budgets.{account}.lanes", "the shares add up to more than 1"
    for name, client in settings.clients.items():
        for alias in sorted(client.streams - settings.streams.keys()):
            yield f"clients.{name}.streams", f"no stream is named {alias}"
    hashes = [client.key_sha256 for client in settings.clients.values()]
    for name, client in settings.clients.items():
        if hashes.count(client.key_sha256) > 1:
            yield f"clients.{name}.key_sha256", "another client has the same key"
    if settings.platform.connect_timeout > settings.platform.timeout:
        yield "platform.connect_timeout", "must not be above platform.timeout"
    yield from _check_cache(settings.cache)
    yield from _check_freshness(settings.freshness)


def _check_addresses(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.listen == settings.admin_listen and settings.listen.port:
        yield "admin_listen", "must differ from listen"
    if not settings.clients and not settings.allow_anonymous and not settings.listen.is_loopback:
        yield "clients", "none are set: name some, or listen on loopback, or write allow_anonymous: true"


def _check_credential(key: str, credential: Credential) -> Iterator[tuple[str, str]]:
    secrets = {
        "client_secret_file": credential.client_secret_file,
        "client_secret_env": credential.client_secret_env,
        "private_key_file": credential.private_key_file,
    }
    wanted = {"client_secret_file", "client_secret_env"} if credential.is_symmetric else {"private_key_file"}
    given = {name for name, value in secrets.items() if value is not None}
    if len(given & wanted) != 1:
        yield key, f"{credential.algorithm} needs {' or '.join(sorted(wanted))}, and one only"
    for name in sorted(given - wanted):
        yield f"{key}.{name}", f"is not for {credential.algorithm}"
    if credential.client_secret_env is not None and not secret_from_environment(credential.client_secret_env):
        yield f"{key}.client_secret_env", f"{credential.client_secret_env} is not set"
    files = {name: value for name, value in secrets.items() if isinstance(value, Path)}
    if credential.jwe is not None:
        files["jwe.public_key_file"] = credential.jwe.public_key_file
    for name, path in files.items():
        if fault := _file_fault(path):
            yield f"{key}.{name}", fault


def _check_cache(cache: Cache) -> Iterator[tuple[str, str]]:
    files = {"password_file": cache.password_file}
    if cache.tls is not None:
        files |= {f"tls.{name}": path for name, path in cache.tls}
        if not cache.url.startswith(("rediss://", "redis+sentinel://")):
            yield "cache.tls", "is for rediss:// and redis+sentinel:// only"
    if cache.username is not None and cache.password_file is None:
        yield "cache.username", "needs cache.password_file"
    for name, path in files.items():
        if path is not None and (fault := _file_fault(path)):
            yield f"cache.{name}", fault


def _file_fault(path: Path) -> str | None:
    try:
        return None if path.read_bytes().strip() else f"{path} is empty"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"


def _check_streams(settings: Settings) -> Iterator[tuple[str, str]]:
    defaults = [alias for alias, stream in settings.streams.items() if stream.default]
    for alias in defaults[1:]:
        yield f"streams.{alias}.default", f"{defaults[0]} is the default already"
    for alias, stream in settings.streams.items():
        if stream.credential not in settings.credentials:
            yield f"streams.{alias}.credential", f"no credential is named {stream.credential}"


def _check_freshness(freshness: FreshnessSettings) -> Iterator[tuple[str, str]]:
    if freshness.min > freshness.max:
        yield "freshness.min", "must not be above freshness.max"
    for status, rule in freshness.status.items():
        if rule.min is not None and rule.max is not None and rule.min > rule.max:
            yield f"freshness.status.{status}.min", "must not be above its max"
