"""The sections of the settings: every key, its type and its default, in the order of the README."""

import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints

from campaign_gateway.settings.scalars import (
    Address,
    AddressesField,
    AddressField,
    Alias,
    Duration,
    HostName,
    PlatformId,
    PositiveDuration,
    RateField,
    Scope,
    Size,
    TlsVersion,
    hide_password,
    read_cache_url,
    read_origin,
    read_proxy,
)


class Section(BaseModel):
    """A part of the settings: frozen, and no key it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Platform(Section):
    """The upstream host and how long to wait for it."""

    url: Annotated[str, AfterValidator(read_origin)] = "https://platform.kore.ai"
    timeout: PositiveDuration = 10.0
    connect_timeout: PositiveDuration = 2.0
    max_body: Size = 4 * 2**20
    max_header: Size = 2**16
    """One header field of an answer."""
    max_headers: Annotated[int, Field(ge=1)] = 1_000
    max_request: Size = 2**20
    """The largest body of a caller's own request."""
    proxy: Annotated[str, AfterValidator(read_proxy)] | None = None
    """An HTTP proxy that connects to the platform for us."""
    ca_file: Path | None = None
    """The platform's authorities, in place of the system's."""
    min_tls: TlsVersion = "1.2"
    insecure: bool = False
    """Whether tokens may leave this machine in clear text."""


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


class StreamSettings(Section):
    """A platform application under a short alias."""

    stream_id: PlatformId
    account_id: PlatformId
    app_id: PlatformId | None = None
    credential: Alias
    default: bool = False


Share = Annotated[float, Field(ge=0, le=1)]


class Lanes(Section):
    """The part of a budget that each lane can count on; the other lanes borrow what is beyond."""

    writes: Share = 0.05
    """Out of the reserve: one call in twenty, so none of its own in a budget below 20."""
    interactive: Share = 0.0
    proof: Share = 0.0
    background: Share = 0.0


class BudgetSettings(Section):
    """Calls per window for one account; `reserve` of them are kept for callers who wait."""

    calls: Annotated[int, Field(ge=1)] = 60
    window: PositiveDuration = 60.0
    reserve: Annotated[int, Field(ge=0)] | None = None
    """None keeps one call in twelve."""
    lanes: Lanes = Lanes()

    @property
    def reserved(self) -> int:
        """Calls of a window that background work leaves alone."""
        return self.calls // 12 if self.reserve is None else self.reserve


class Pause(Section):
    """What is done when the platform says that its limit is exceeded."""

    max: PositiveDuration = 300.0
    """A `Retry-After` is believed up to this long; then one call finds out."""


class ClientSettings(Section):
    """An internal caller: the SHA-256 of its key, and what it may do."""

    key_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]
    streams: Annotated[frozenset[Alias], Field(min_length=1)]
    scopes: frozenset[Scope] = frozenset({"read"})
    rate: RateField | None = None
    """How often it may ask; all of one period at once, if it likes. This and the next two: in each process."""
    concurrent: Annotated[int, Field(ge=1)] | None = None
    """Requests that wait for an answer at the same time."""
    connections: Annotated[int, Field(ge=1)] | None = None


class CacheTls(Section):
    """Files for TLS to Redis, beyond the system's authorities."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class CacheSeal(Section):
    """How what is kept outside the process is bound to its place."""

    key_file: Path | Annotated[tuple[Path, ...], Field(min_length=1, max_length=2)]
    """A file, or two while a key is replaced: the first one's key seals, both open."""
    encrypt: bool = False
    """Whether what is stored can be read with the key only."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The keys' files, the sealing one first."""
        return (self.key_file,) if isinstance(self.key_file, Path) else self.key_file


class CacheSentinel(Section):
    """How to be let in by sentinels; they may ask for another password than Redis, or for none."""

    username: str | None = None
    password_file: Path | None = None
    tls: CacheTls | None = None


class Cache(Section):
    """Where entries are kept."""

    url: Annotated[
        str, AfterValidator(read_cache_url), PlainSerializer(hide_password, return_type=str, when_used="json")
    ] = "memory://"
    username: str | None = None
    password_file: Path | None = None
    tls: CacheTls | None = None
    sentinel: CacheSentinel | None = None
    seal: CacheSeal | None = None
    """None seals with a key that everybody can derive: damage is found, forgery is not."""
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,32}$")] = "cg"
    timeout: PositiveDuration = 0.25
    local_max_bytes: Size = 64 * 2**20
    local_unwatched: Duration = 1.0
    """How long a local copy may answer without Redis while no invalidations by other replicas are received."""
    replicas: Annotated[int, Field(ge=1)] = 1
    """How many replicas share the budget, for as long as Redis cannot be asked; then those seen count. Each has
    `workers`."""
    state_dir: Path | None = None
    """With memory://: where the calls of the window are written down, so that a restart knows them, and a snapshot of
    entries, so that it begins with them. Entries hold callers' phone numbers; both files are for this user alone. None
    writes the calls down in the user's own state directory, and no entries."""


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
    read_your_writes: Duration = 5.0
    """For how long a client's own reads are held to what its writes may have changed."""


class Sweep(Section):
    """Polls of the list of campaigns, which validate stored answers; see `policy.sweeping`."""

    share: Share = 0.5
    """The part of the budget for them, for full scans and for rotation; 0 switches them off."""
    lag: PositiveDuration | Literal["auto"] = "auto"
    """How far the platform's list may lag behind its answers by id; part of the stated bound. `auto` measures it, from
    rows that were shown late, and allows for 10 s at most and until there were enough of them."""


class Log(Section):
    """What is written to standard error, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is written. Requests are `info`; those that fail with 5xx are `warning`."""
    access: Literal["all", "sampled", "slow", "errors", "off"] = "sampled"
    """Which requests have a line: all; all but some hits, where there are many; slow ones and errors; errors; none."""
    hits_per_second: Annotated[int, Field(ge=1)] = 1_000
    """With `sampled`: so many hits have a line each, in each process; beyond that one in n, which says `stands_for`."""
    slow: PositiveDuration = 1.0
    """With `slow`: how long an answer takes that has a line."""
    format: Literal["json", "text"] | None = None
    """None writes text on a terminal, and JSON anywhere else."""


class Shutdown(Section):
    """How a SIGTERM is honoured: not ready at once, no new connections after `drain`, the end within `grace`."""

    drain: Duration = 5.0
    """Longer than load balancers take to notice: twice a period of 2 s, and a time-out, say."""
    grace: PositiveDuration = 20.0

    @property
    def seconds(self) -> float:
        """From SIGTERM to the end."""
        return self.drain + self.grace


class ListenOptions(Section):
    """What holds for callers' connections."""

    max_connection_age: PositiveDuration | None = 3_600.0
    """How old one gets, one tenth more or less: the next answer closes it, so that load spreads over new replicas and
    workers. None lets it stay."""


class ListenTls(Section):
    """TLS 1.2 or newer on `listen`. The files are read again when they change."""

    cert_file: Path
    """The certificate, and those between it and its authority, in PEM."""
    key_file: Path | None = None
    """Its key, without a password; None if it is in `cert_file`."""
    client_ca_file: Path | None = None
    """Authorities of callers' certificates: then each caller has to show one."""
    client_names: dict[str, Alias] = {}
    """Clients by a name in their certificate (a host's, a URI, or else the common name): they need no key."""


class Settings(Section):
    """The whole tree, in the order of the README."""

    listen: AddressesField = (Address("127.0.0.1", 8080),)
    admin_listen: AddressField = Address("127.0.0.1", 9090)
    listen_options: ListenOptions = ListenOptions()
    tls: ListenTls | None = None
    workers: Annotated[int, Field(ge=1)] = 1
    """Processes that share `listen`; each is a replica to the others."""
    keepalive: PositiveDuration = 75.0
    """How long a caller's connection may stay idle; longer than load balancers in front keep it for use."""
    send_timeout: PositiveDuration = 30.0
    """How long a caller may take nothing of an answer that waits for it."""
    max_unsent: Size = 64 * 2**20
    """What may wait for callers to read it, in each process."""
    allow_anonymous: bool = False
    hosts: tuple[HostName, ...] = ()
    """Names that the gateway is reached by, beside private ones: `Host` is held to them where no key is asked for."""
    hot_path: bool = True
    """Whether hits are answered without parsing a request's head that is known already."""
    platform: Platform = Platform()
    credentials: dict[Alias, Credential]
    streams: Annotated[dict[Alias, StreamSettings], Field(min_length=1)]
    budgets: dict[str, BudgetSettings] = {}
    pause: Pause = Pause()
    clients: dict[Alias, ClientSettings] = {}
    cache: Cache = Cache()
    freshness: FreshnessSettings = FreshnessSettings()
    sweep: Sweep = Sweep()
    log: Log = Log()
    shutdown: Shutdown = Shutdown()

    @property
    def known_hosts(self) -> frozenset[str]:
        """The names, in lower case, that the gateway is reached by, beside private ones."""
        listened = (address.host for address in (*self.listen, self.admin_listen))
        return frozenset(name.lower() for name in (*self.hosts, *listened, socket.gethostname()))

    @property
    def default_stream(self) -> str | None:
        """The alias used where a path names no stream."""
        defaults = [alias for alias, stream in self.streams.items() if stream.default]
        if defaults:
            return defaults[0]
        return next(iter(self.streams)) if len(self.streams) == 1 else None

    def budget_of(self, account: str) -> BudgetSettings:
        """The budget of one account: its own, or the default."""
        return self.budgets.get(account) or self.budgets.get("default") or BudgetSettings()
