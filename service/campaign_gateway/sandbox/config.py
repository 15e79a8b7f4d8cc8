"""What can be set about the simulated platform, with defaults that work at once."""

from collections.abc import Callable
from dataclasses import dataclass, field

from campaign_gateway.sandbox.auth import ALGORITHMS, SCOPE, rsa_private_key, rsa_public_key
from campaign_gateway.sandbox.canned import LIMIT_FORMS
from campaign_gateway.sandbox.faults import FaultName
from campaign_gateway.sandbox.listing import PAGE_ROWS

# Known to everyone, good for nothing but the sandbox. 64 bytes, as HS512 wants.
DEMO_SECRET = "sandbox-only-secret-known-to-everyone-and-good-for-nothing-else!"  # noqa: S105 - public on purpose
DEMO_CLIENT_ID = "cs-5a0db0c4-1e67-5d3b-9f42-7c8e21b6a930"
DEMO_STREAM_ID = "st-5a0db0c4-77f2-5b18-a6c3-04d9e8f1b257"
DEMO_ACCOUNT_ID = "5a0db0c4e91f27d8a6b3c054"


@dataclass(frozen=True, slots=True)
class Stream:
    """A further application on the same platform, which the same JWT app may call.

    Attributes:
        stream_id: Its id.
        account_id: Its account; applications of one account share one rate limit.
        campaigns: How many campaigns it begins with.
        app_id: What the header `iid` must say; empty: the stream id, as the documentation has it.
    """

    stream_id: str
    account_id: str
    campaigns: int = 12
    app_id: str = ""


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """Settings of a sandbox; every field has a default.

    Attributes:
        host: Where to listen. Whoever can reach it can change and break all of it; everything in it is invented.
        port: TCP port; 0 takes a free one.
        stream_id: The application id.
        app_id: What the header `iid` must say; empty: the stream id, as the documentation has it.
        account_id: Its account.
        client_id: The JWT app's id, which tokens name as `appId`, `kore_iss` or `iss`.
        secret: The key of HS256 and HS512; can be rotated while running.
        algorithm: The one algorithm that the app accepts: HS256, HS512, RS256 or RS512.
        public_key: PEM, the key of RS256 and RS512.
        scope: What the app was granted; anything but `campaign_management` makes every call a scope failure.
        account_level: The app belongs to the whole account: an unknown stream is 400 `Invalid StreamId`.
        enforce_jti: Tokens without `jti` are refused.
        enforce_jwe: Tokens that are merely signed are refused.
        decryption_key: PEM, the platform's private RSA key for encrypted tokens.
        streams: Further applications.
        campaigns: How many campaigns the application begins with.
        seed: The same seed and clock make the same campaigns, ids included.
        calls: The rate limit: so many calls per account ...
        window_seconds: ... in any span of so many seconds.
        count_refused: Calls refused by the limit count against it too, so that steady knocking never ends it.
        limit_form: How a call over the limit is refused, by the name of the fault of that form.
        page_rows: The most campaigns that one page of a list shows.
        latency_seconds: Added to every answer.
        preparing_seconds: How long a new voice campaign stays `Preparing`.
        run_seconds: How long a started campaign runs before it completes.
        queue_seconds: How long added contacts take to appear.
        keepalive_seconds: How long an idle connection is kept.
        log_kept: How many arrivals the request log keeps.
    """

    host: str = "127.0.0.1"
    port: int = 0
    stream_id: str = DEMO_STREAM_ID
    app_id: str = ""
    account_id: str = DEMO_ACCOUNT_ID
    client_id: str = DEMO_CLIENT_ID
    secret: str = field(default=DEMO_SECRET, repr=False)
    algorithm: str = "HS256"
    public_key: str = ""
    scope: str = SCOPE
    account_level: bool = False
    enforce_jti: bool = False
    enforce_jwe: bool = False
    decryption_key: str = field(default="", repr=False)
    streams: tuple[Stream, ...] = ()
    campaigns: int = 12
    seed: int = 1
    calls: int = 60
    window_seconds: float = 60.0
    count_refused: bool = False
    limit_form: FaultName = FaultName.LIMIT_429
    page_rows: int = PAGE_ROWS
    latency_seconds: float = 0.0
    preparing_seconds: float = 1.0
    run_seconds: float = 120.0
    queue_seconds: float = 1.0
    keepalive_seconds: float = 75.0
    log_kept: int = 100_000

    def __post_init__(self) -> None:
        """Checks what would otherwise surprise later.

        Raises:
            ValueError: A value, or a pair of values, makes no sense.
        """
        if not self.host:
            raise ValueError("host must be an address or a name: 0.0.0.0 is every address of this machine")
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, not {self.algorithm!r}")
        if self.algorithm.startswith("RS") and not self.public_key:
            raise ValueError(f"algorithm {self.algorithm} needs public_key")
        for name, pem, load in (
            ("public_key", self.public_key, rsa_public_key),
            ("decryption_key", self.decryption_key, rsa_private_key),
        ):
            if pem:
                _check_key(name, pem, load)
        if self.enforce_jwe and not self.decryption_key:
            raise ValueError("enforce_jwe needs decryption_key")
        if self.limit_form not in LIMIT_FORMS:
            raise ValueError(f"limit_form must be one of {', '.join(sorted(LIMIT_FORMS))}, not {self.limit_form!r}")
        if self.calls < 0 or self.window_seconds <= 0:
            raise ValueError("calls must not be negative and window_seconds must be positive")
        if self.page_rows < 1:
            raise ValueError("page_rows must be positive")
        ids = [self.stream_id, *(stream.stream_id for stream in self.streams)]
        if len(set(ids)) < len(ids):
            raise ValueError("streams must have ids of their own, and other ones than stream_id")


def _check_key(name: str, pem: str, load: Callable[[str], object]) -> None:
    try:
        load(pem)
    except ValueError as error:
        raise ValueError(f"{name} must be an RSA key in PEM") from error
