"""The sections of the settings: every key, its type and its default, in the order of the README."""

import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from campaign_gateway.settings.scalars import (
    Address,
    AddressesField,
    AddressField,
    Alias,
    ChangeTypeName,
    Count,
    Duration,
    Factor,
    Flag,
    HostName,
    Moment,
    Note,
    PlatformId,
    PositiveCount,
    PositiveDuration,
    Prefix,
    RateField,
    Scope,
    Sha256,
    Share,
    Size,
    StatusName,
    TlsVersion,
    TokenLifetime,
    hide_password,
    read_cache_url,
    read_origin,
    read_proxy,
    read_target,
)


class Section(BaseModel):
    """A part of the settings: frozen, and no key it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Platform(Section):
    """The upstream host and how long to wait for it."""

    url: Annotated[str, AfterValidator(read_origin)] = "https://platform.kore.ai"
    """Where the platform is; https, but for loopback or with `insecure`."""
    timeout: PositiveDuration = 10.0  # For one whole call.
    connect_timeout: PositiveDuration = 2.0  # To connect, TLS included.
    max_body: Size = 4 * 2**20  # The largest answer, after decompression.
    max_header: Size = 2**16
    """One header field of an answer."""
    max_headers: PositiveCount = 1_000  # Header fields of one answer.
    max_request: Size = 2**20
    """The largest body of a caller's own request."""
    proxy: Annotated[str, AfterValidator(read_proxy)] | None = None
    """An HTTP proxy that connects to the platform for us."""
    ca_file: Path | None = None  # The platform's authorities, in place of the system's.
    min_tls: TlsVersion = "1.2"  # The oldest TLS that is spoken with the platform.
    insecure: Flag = False
    """Whether tokens may leave this machine in clear text."""


class Encryption(Section):
    """JWE: the signed token is encrypted for the platform."""

    public_key_file: Path  # The platform's public key, in PEM.
    key_id: str  # The name that the platform has for it.
    alg: Literal["RSA-OAEP"] = "RSA-OAEP"  # How the content key is encrypted.
    enc: Literal["A128CBC-HS256", "A128GCM", "A256GCM"] = "A256GCM"  # How the token is encrypted.


class Credential(Section):
    """A JWT app of the platform."""

    client_id: str  # The app's client id, `cs-...`.
    client_secret_file: Path | None = None  # Holds the shared secret, for HS algorithms.
    client_secret_env: str | None = None  # The variable that holds it instead.
    private_key_file: Path | None = None  # Holds the private key, for RS algorithms.
    algorithm: Literal["HS256", "HS512", "RS256", "RS512"] = "HS256"  # What tokens are signed with.
    subject: str = "campaign-gateway"  # The `sub` of tokens.
    token_lifetime: TokenLifetime = 600.0  # From `iat` to `exp`.
    jti: Flag = False  # Whether each call has a token of its own.
    jwe: Encryption | None = None  # Encrypts tokens; None does not.

    @property
    def is_symmetric(self) -> bool:
        """Whether it signs with a shared secret rather than an RSA key."""
        return self.algorithm.startswith("HS")


class StreamSettings(Section):
    """A platform application under a short alias."""

    stream_id: PlatformId  # The application's id, `st-...`.
    account_id: PlatformId  # The account whose calls its reads take.
    app_id: PlatformId | None = None  # The header `iid`; None takes `stream_id`.
    credential: Alias  # One of `credentials`.
    default: Flag = False  # Whether paths that name no stream mean this one.


class Lanes(Section):
    """The part of a budget that each lane can count on; the other lanes borrow what is beyond."""

    writes: Share = 0.05
    """Out of the reserve: one call in twenty, so none of its own in a budget below 20."""
    interactive: Share = 0.0  # For callers who wait.
    proof: Share = 0.0  # For reads that validate stored answers.
    background: Share = 0.0  # For refreshes that nobody waits for.


class BudgetSettings(Section):
    """Calls per window for one account; `reserve` of them are kept for callers who wait."""

    calls: PositiveCount = 60  # Calls that the account may make in a window.
    window: PositiveDuration = 60.0  # How long a call counts.
    reserve: Count | None = None
    """None keeps one call in twelve."""
    lanes: Lanes = Lanes()  # What each lane can count on.

    @property
    def reserved(self) -> int:
        """Calls of a window that background work leaves alone."""
        return self.calls // 12 if self.reserve is None else self.reserve


class Pause(Section):
    """What is done when the platform says that its limit is exceeded."""

    max: PositiveDuration = 300.0
    """A `Retry-After` is believed up to this long; then one call finds out."""


class KeySettings(Section):
    """One of a client's keys."""

    sha256: Sha256  # From `key new`.
    note: Note | None = None
    """What metrics call it, such as the month that it is of; None takes the first eight digits of its hash."""
    expires: Moment | None = None
    """When it lets nobody in any longer: a date (its first moment, in UTC) or a time; None for never."""

    @property
    def name(self) -> str:
        """What metrics call it."""
        return self.sha256[:8] if self.note is None else self.note


class ClientSettings(Section):
    """An internal caller: the SHA-256 of its key, or of several, and what it may do."""

    key_sha256: Sha256 | None = None  # From `key new`; or `keys`, or both.
    keys: tuple[KeySettings, ...] | None = None
    """Several keys, of which each is good: a new one is handed out before the old one expires."""
    streams: Annotated[frozenset[Alias], Field(min_length=1)]  # Aliases that it may use.
    scopes: frozenset[Scope] = frozenset({"read"})  # Any of read, write, purge.
    rate: RateField | None = None
    """How often it may ask; all of one period at once, if it likes. This and the next two: in each process."""
    concurrent: PositiveCount | None = None
    """Requests that wait for an answer at the same time."""
    connections: PositiveCount | None = None  # Connections with its requests at the same time.

    @property
    def named_keys(self) -> dict[str, KeySettings]:
        """All its keys, by where they stand below the client."""
        first = {} if self.key_sha256 is None else {"key_sha256": KeySettings(sha256=self.key_sha256)}
        return first | {f"keys.{number}": key for number, key in enumerate(self.keys or ())}


class CacheTls(Section):
    """Files for TLS to Redis, beyond the system's authorities."""

    ca_file: Path | None = None  # Authorities of Redis, in place of the system's.
    cert_file: Path | None = None  # The certificate that is shown to Redis.
    key_file: Path | None = None  # Its key, if it is in a file of its own.


class CacheSeal(Section):
    """How what is kept outside the process is bound to its place."""

    key_file: Path | Annotated[tuple[Path, ...], Field(min_length=1, max_length=2)]
    """A file, or two while a key is replaced: the first one's key seals, both open."""
    encrypt: Flag = False
    """Whether what is stored can be read with the key only."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The keys' files, the sealing one first."""
        return (self.key_file,) if isinstance(self.key_file, Path) else self.key_file


class CacheSentinel(Section):
    """How to be let in by sentinels; they may ask for another password than Redis, or for none."""

    username: str | None = None  # Of an ACL; None sends the password alone.
    password_file: Path | None = None  # Holds the password for sentinels.
    tls: CacheTls | None = None  # Files for TLS to sentinels.


class Cache(Section):
    """Where entries are kept."""

    url: Annotated[
        str, AfterValidator(read_cache_url), PlainSerializer(hide_password, return_type=str, when_used="json")
    ] = "memory://"
    """memory://, redis://, rediss://, redis+sentinel:// or redis+cluster://."""
    username: str | None = None  # Of an ACL; None sends the password alone.
    password_file: Path | None = None  # Holds the password for Redis.
    tls: CacheTls | None = None  # Files for TLS to Redis.
    sentinel: CacheSentinel | None = None  # How sentinels let us in, if they ask.
    seal: CacheSeal | None = None
    """None seals with a key that everybody can derive: damage is found, forgery is not."""
    prefix: Prefix = "cg"  # Of keys in Redis.
    timeout: PositiveDuration = 0.25  # For one command.
    local_max_bytes: Size = 64 * 2**20  # Entries kept in each process.
    local_unwatched: Duration = 1.0
    """How long a local copy may answer without Redis while no invalidations by other replicas are received."""
    replicas: PositiveCount = 1
    """How many replicas share the budget, for as long as Redis cannot be asked; then those seen count. Each has
    `workers`."""
    state_dir: Path | None = None
    """With memory://: where the calls of the window are written down, so that a restart knows them, and a snapshot of
    entries, so that it begins with them. Entries hold callers' phone numbers; both files are for this user alone. None
    writes the calls down in the user's own state directory, and no entries."""


class StatusFreshness(Section):
    """Clamps for campaigns of one status; `max` can only be narrower than the general one."""

    min: PositiveDuration | None = None  # The shortest lifetime; None takes the general one.
    max: PositiveDuration | None = None  # The longest lifetime; None takes the general one.


_STATUS_DEFAULTS = {"Active": {"max": "15s"}, "Preparing": {"max": "5s"}}


def _beside_defaults(rules: object) -> object:
    # None named is none wanted: whoever names one leaves the others as they are.
    return {**_STATUS_DEFAULTS, **rules} if isinstance(rules, dict) and rules else rules


class FreshnessSettings(Section):
    """How long entries are fresh and how old they may get; see `policy.freshness`."""

    factor: Factor = 0.1  # Lifetime by time since `updatedAt`.
    min: Duration = 5.0  # The shortest lifetime.
    max: PositiveDuration = 600.0  # The longest lifetime.
    default: Duration = 30.0  # Without an `updatedAt` that makes sense.
    status: Annotated[dict[StatusName, StatusFreshness], BeforeValidator(_beside_defaults)] = Field(
        default=_STATUS_DEFAULTS, validate_default=True
    )
    """Of those that are not named, Active keeps at most 15s and Preparing at most 5s; `{}` has no such rule."""
    missing: Duration = 10.0  # How long it is remembered that there is no such campaign.
    stale_while_revalidate: Duration = 60.0  # Past its lifetime: given while a newer answer is fetched.
    stale_if_error: PositiveDuration = 86_400.0  # The hard bound: nothing older is given.
    read_your_writes: Duration = 5.0
    """For how long a client's own reads are held to what its writes may have changed."""


class Sweep(Section):
    """Polls of the list of campaigns, which validate stored answers; see `policy.sweeping`."""

    share: Share = 0.5
    """The part of the budget for them, for full scans and for rotation; 0 switches them off."""
    lag: PositiveDuration | Literal["auto"] = "auto"
    """How far the platform's list may lag behind its answers by id; part of the stated bound. `auto` measures it, from
    rows that were shown late, and allows for 10 s at most and until there were enough of them."""


class ChangesSettings(Section):
    """The feed of changes: how much of it is kept, and who may listen."""

    keep: PositiveDuration = 86_400.0  # How long a cursor is good: what is older is forgotten.
    max: PositiveCount = 10_000  # Changes of one stream that are kept.
    subscribers: PositiveCount = 5_000  # Who listens at the same time, in each process.
    client_subscribers: PositiveCount = 1_000  # The same, of one client.
    max_unsent: Size = 2**16
    """What may wait for one who listens and reads slowly; who takes nothing for `send_timeout` is cut off."""


class WebhookSettings(Section):
    """A program that is told of changes by `POST`."""

    url: Annotated[str, AfterValidator(read_target)]  # Where to; redirects are not followed.
    secret_file: Path
    """Holds the secret that deliveries are signed with, `whsec_...` or other text; two lines while it is replaced."""
    streams: Annotated[frozenset[Alias], Field(min_length=1)] | None = None  # Aliases of streams; None takes all.
    types: Annotated[frozenset[ChangeTypeName], Field(min_length=1)] | None = None  # Types of changes; None takes all.
    proxy: Annotated[str, AfterValidator(read_proxy)] | None = None  # An HTTP proxy that connects to it for us.
    ca_file: Path | None = None  # Its authorities, in place of the system's.
    insecure: Flag = False  # Whether changes may leave this machine in clear text.


class Log(Section):
    """What is written to standard error, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is written. Requests are `info`; those that fail with 5xx are `warning`."""
    access: Literal["all", "sampled", "slow", "errors", "off"] = "sampled"
    """Which requests have a line: all; all but some hits, where there are many; slow ones and errors; errors; none."""
    hits_per_second: PositiveCount = 1_000
    """With `sampled`: so many hits have a line each, in each process; beyond that one in n, which says `stands_for`."""
    slow: PositiveDuration = 1.0
    """With `slow`: how long an answer takes that has a line."""
    format: Literal["json", "text"] | None = None
    """None writes text on a terminal, and JSON anywhere else."""


class Shutdown(Section):
    """How a SIGTERM is honoured: not ready at once, no new connections after `drain`, the end within `grace`."""

    drain: Duration = 5.0
    """Longer than load balancers take to notice: twice a period of 2 s, and a time-out, say."""
    grace: PositiveDuration = 20.0  # Then, for all that is left.

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

    listen: AddressesField = (Address("127.0.0.1", 8080),)  # The API: host:port, or a list.
    admin_listen: AddressField = Address("127.0.0.1", 9090)  # Metrics and probes; never to be exposed with the API.
    listen_options: ListenOptions = ListenOptions()  # What holds for callers' connections.
    tls: ListenTls | None = None  # TLS on `listen`; None speaks plain HTTP.
    workers: PositiveCount = 1
    """Processes that share `listen`; each is a replica to the others."""
    keepalive: PositiveDuration = 75.0
    """How long a caller's connection may stay idle; longer than load balancers in front keep it for use."""
    send_timeout: PositiveDuration = 30.0
    """How long a caller may take nothing of an answer that waits for it."""
    max_unsent: Size = 64 * 2**20
    """What may wait for callers to read it, in each process."""
    allow_anonymous: Flag = False  # Whether to serve beyond loopback without `clients`.
    hosts: tuple[HostName, ...] = ()
    """Names that the gateway is reached by, beside private ones: `Host` is held to them where no key is asked for."""
    hot_path: Flag = True
    """Whether hits are answered without parsing a request's head that is known already."""
    docs: Flag = True
    """Whether the API shows its description to everybody, at `/docs` and `/openapi.json`."""
    platform: Platform = Platform()  # The upstream host.
    credentials: dict[Alias, Credential]  # JWT apps of the platform, by a name of one's own.
    streams: Annotated[dict[Alias, StreamSettings], Field(min_length=1)]  # The platform's applications, by alias.
    budgets: dict[str, BudgetSettings] = {}  # By account id; `default` is for the others.
    pause: Pause = Pause()  # What a 429 leads to.
    clients: dict[Alias, ClientSettings] = {}  # Callers by name; none lets everybody in.
    cache: Cache = Cache()  # Where entries are kept.
    freshness: FreshnessSettings = FreshnessSettings()  # How long entries are fresh.
    sweep: Sweep = Sweep()  # Polls of the list.
    changes: ChangesSettings = ChangesSettings()  # The feed of changes.
    webhooks: dict[Alias, WebhookSettings] = {}  # Who is told of changes, by a name of one's own.
    log: Log = Log()  # What is logged.
    shutdown: Shutdown = Shutdown()  # How a SIGTERM is honoured.

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
