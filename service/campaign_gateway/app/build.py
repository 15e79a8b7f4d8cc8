"""Settings to values: what the other rooms are made with. Nothing is started here, and nothing connected."""

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from campaign_gateway.contract.operations import Tenant
from campaign_gateway.policy.freshness import Freshness, StatusRule
from campaign_gateway.policy.ledger import Allowance, Lane
from campaign_gateway.policy.pacing import Capacity
from campaign_gateway.proxy.request import Stream
from campaign_gateway.proxy.sweep import SweepConfig
from campaign_gateway.settings import (
    CacheSeal,
    ClientSettings,
    Credential,
    FreshnessSettings,
    Mistake,
    Settings,
    SettingsError,
    secret_from_environment,
)
from campaign_gateway.settings.tree import Sweep
from campaign_gateway.store.seal import NO_SECRET, Refusal, Seals
from campaign_gateway.upstream.budget import CallBudget
from campaign_gateway.upstream.client import Limits, PlatformClient, Route
from campaign_gateway.upstream.signer import Claims, Recipient, Secret, Signer
from campaign_gateway.web.changes import ChangeLimits
from campaign_gateway.web.clients import Client, ClientKey, Clients
from campaign_gateway.web.limits import ClientLimits

ANONYMOUS = "anonymous"
LEAVE_SECONDS = 1.0
"""Beyond the time for connecting: how long a permit may go unused before its request may not leave any longer."""


@dataclass(slots=True)
class Plan:
    """What the settings come to. Whoever looks here each time goes by those in use."""

    settings: Settings
    streams: Mapping[str, Stream]
    """By alias."""
    accounts: Sequence[str]
    freshness: Freshness
    callers: Mapping[str, int]
    """How many clients may use streams of an account, by its name."""

    def adopt(self, settings: Settings) -> None:
        """Other settings, which differ in nothing that takes a restart."""
        self.settings, self.freshness = settings, build_freshness(settings.freshness)
        self.callers = count_callers(settings)

    def allowance(self, account: str) -> Allowance:
        """What an account may do, by its name."""
        return build_allowance(self.settings, account, self.callers.get(account, 1))

    @property
    def identities(self) -> Mapping[str, str]:
        """Those of the streams, by alias."""
        return {alias: stream.identity for alias, stream in self.streams.items()}


def plan_gateway(settings: Settings) -> Plan:
    """What the settings come to; no secret is read yet."""
    streams = build_streams(settings)
    accounts = sorted({stream.tenant.account for stream in streams.values()})
    return Plan(settings, streams, accounts, build_freshness(settings.freshness), count_callers(settings))


def build_freshness(settings: FreshnessSettings) -> Freshness:
    """The policy's rules out of the settings."""
    rules = {status: StatusRule(rule.min, rule.max) for status, rule in settings.status.items()}
    return Freshness(**{**settings.model_dump(exclude={"read_your_writes"}), "status": rules})


def build_streams(settings: Settings) -> dict[str, Stream]:
    """The streams by alias."""
    streams = {}
    for alias, row in settings.streams.items():
        tenant = Tenant(row.stream_id, row.account_id, row.app_id or row.stream_id)
        client_id = settings.credentials[row.credential].client_id
        # Everything that makes one stream's campaigns another thing than a second one's with the same ids.
        parts = (settings.platform.url, tenant.stream, tenant.account, tenant.app, client_id)
        identity = hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()
        streams[alias] = Stream(alias, tenant, row.credential, identity)
    return streams


def build_clients(settings: Settings) -> Clients:
    """The callers; without any in the settings, everybody is the same anonymous one."""
    names = {} if settings.tls is None else settings.tls.client_names
    return Clients(*build_callers(settings), settings.known_hosts, names)


def build_callers(settings: Settings) -> tuple[dict[str, Client], Client | None]:
    """The clients by the hashes of their keys, and who everybody is where there are none."""
    by_hash = {}
    for name, row in settings.clients.items():
        limits = build_limits(row)
        for key in row.named_keys.values():
            expires = math.inf if key.expires is None else key.expires.timestamp()
            by_hash[key.sha256] = Client(name, row.streams, row.scopes, limits, ClientKey(key.name, expires))
    everything = Client(ANONYMOUS, frozenset(settings.streams), frozenset({"read", "write", "purge"}))
    return by_hash, None if by_hash else everything


def build_change_limits(settings: Settings) -> ChangeLimits:
    """Who may listen to changes."""
    row = settings.changes
    return ChangeLimits(row.subscribers, row.client_subscribers, row.max_unsent)


def build_limits(settings: ClientSettings) -> ClientLimits | None:
    """The client's own limits; None where it has none."""
    rate, concurrent, connections = settings.rate, settings.concurrent, settings.connections
    if rate is None and concurrent is None and connections is None:
        return None
    return ClientLimits(rate, concurrent or math.inf, connections or math.inf)


def build_platform(settings: Settings, signers: Mapping[str, Signer]) -> PlatformClient:
    """The platform's client, with a signer for each credential, by its name."""
    row = settings.platform
    limits = Limits(row.timeout, row.connect_timeout, row.max_body, row.max_header, row.max_headers)
    return PlatformClient(row.url, limits, signers, Route(row.proxy, row.ca_file, row.min_tls))


def build_signers(credentials: Mapping[str, Credential], clock: Callable[[], float] = time.time) -> dict[str, Signer]:
    """The signer of each credential, by its name; each has signed once, so that no call is spent on one that cannot.

    Args:
        credentials: by name.
        clock: seconds since 1970, which tokens are dated by.

    Raises:
        OSError: a secret's file cannot be read.
        SettingsError: a key looks good and cannot sign.
    """
    signers = {name: build_signer(credential, clock) for name, credential in credentials.items()}
    mistakes = []
    for name, signer in signers.items():
        try:
            signer.token()
        except ValueError as error:
            mistakes.append(Mistake(f"credentials.{name}", f"cannot sign: {error}", "check its key"))
    if mistakes:
        raise SettingsError(mistakes)
    return signers


def build_signer(credential: Credential, clock: Callable[[], float] = time.time) -> Signer:
    """The signer of one credential; `clock` as `build_signers` has it.

    Raises:
        OSError: a secret's file cannot be read.
    """
    source = credential.private_key_file or credential.client_secret_file
    secret = Secret(source or secret_from_environment(credential.client_secret_env or "").encode())
    claims = Claims(credential.client_id, credential.subject, credential.token_lifetime, credential.jti)
    jwe = credential.jwe
    recipient = Recipient(Secret(jwe.public_key_file), jwe.key_id, jwe.alg, jwe.enc) if jwe is not None else None
    return Signer(claims, credential.algorithm, secret, recipient, clock)


def build_seals(settings: CacheSeal | None, on_refused: Callable[[Refusal], None]) -> Seals:
    """How what is kept outside this process is sealed.

    Raises:
        OSError: a key's file cannot be read.
    """
    if settings is None:
        return replace(NO_SECRET, on_refused=on_refused)
    keys = [Secret(file) for file in settings.files]
    return Seals(lambda: tuple(key.value for key in keys), settings.encrypt, on_refused)


def count_callers(settings: Settings) -> Mapping[str, int]:
    """How many clients may use streams of an account, by its name; none is left out that has one."""
    accounts = {alias: stream.account_id for alias, stream in settings.streams.items()}
    return Counter(
        account for client in settings.clients.values() for account in {accounts[alias] for alias in client.streams}
    )


def build_allowance(settings: Settings, account: str, clients: int) -> Allowance:
    """What the account may do, which so many clients share."""
    row = settings.budget_of(account)
    return Allowance(
        calls=row.calls,
        window=row.window,
        leave=settings.platform.connect_timeout + LEAVE_SECONDS,
        timeout=settings.platform.timeout,
        reserve=row.reserved,
        lanes={Lane(name): int(part * row.calls) for name, part in row.lanes.model_dump().items()},
        clients=clients,
        longest_pause=settings.pause.max,
    )


def build_sweep_config(
    plan: Plan, stream: Stream, budget: CallBudget, seconds_ahead: Callable[[], float | None]
) -> SweepConfig:
    """What the sweep of a stream goes by."""
    sweep = plan.settings.sweep
    capacity = partial(current_capacity, plan, budget, stream.tenant.account)
    return SweepConfig(sweep.share, build_lag(sweep), capacity, seconds_ahead)


def build_lag(sweep: Sweep) -> float | None:
    """Seconds that the lists may lag; None to measure it."""
    return None if sweep.lag == "auto" else sweep.lag


def current_capacity(plan: Plan, budget: CallBudget, account: str) -> Capacity:
    """What the account has left for polls and reads of its streams at this moment."""
    row, known = plan.settings.budget_of(account), budget.outlook(account)
    return Capacity(
        calls=known.capacity,
        window=row.window,
        # While no caller needs calls, only what writes can count on is kept.
        reserve=row.reserved if known.callers or known.is_contended else int(row.lanes.writes * row.calls),
        share=plan.settings.sweep.share,
        others=known.callers,
        streams=sum(1 for stream in plan.streams.values() if stream.tenant.account == account),
        free=known.free,
        falls=known.falls,
        is_contended=known.is_contended,
    )
