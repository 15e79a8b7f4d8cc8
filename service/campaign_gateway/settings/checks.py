"""Mistakes that show only when two keys are held side by side."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from campaign_gateway.settings.mistakes import KEY_ITSELF, MISSING, Mistake
from campaign_gateway.settings.scalars import host_is_loopback
from campaign_gateway.settings.tree import Cache, Credential, FreshnessSettings, ListenTls, Platform, Settings

_EXPORTER = "opentelemetry-exporter-otlp-proto-http"


def unused_proxy(settings: Settings, environ: Mapping[str, str] = os.environ) -> str | None:
    """The variable that names a proxy for other programs only; None if there is none, or the settings name one."""
    names = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    is_direct = settings.platform.proxy is None and not host_is_loopback(settings.platform.url)
    return next((name for name in names if is_direct and environ.get(name)), None)


def wants_traces(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the standard variables of OpenTelemetry ask for traces: they name a collector, or the exporter."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(environ.get(name) for name in names) if not exporter else exporter != "none"


def traces_fault(environ: Mapping[str, str] = os.environ) -> tuple[str, str, str] | None:
    """Why there are no traces though the environment asks for them: a variable, the problem, and advice; else None."""
    if not wants_traces(environ):
        return None
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter not in {"", "otlp"}:
        return "OTEL_TRACES_EXPORTER", "names an exporter that is not there", "write otlp, or none"
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    name = next((name for name in names if environ.get(name)), "")
    if environ.get(name, "http/protobuf").strip() != "http/protobuf":
        return name, "names a protocol that is not spoken", "write http/protobuf (port 4318), or leave it out"
    try:
        distribution(_EXPORTER)
    except PackageNotFoundError:
        advice = "pip install 'campaign-gateway[otel]', or OTEL_SDK_DISABLED=true"
        return "OTEL_EXPORTER_OTLP_ENDPOINT", "asks for traces, which need packages that are not installed", advice
    return None


def state_home() -> Path | None:
    """Where this user's programs keep what outlives them (XDG Base Directory Specification); None if nowhere."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    if named.is_absolute():
        return named
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError:
        return None


def state_folder(cache: Cache) -> Path | None:
    """Where a gateway without Redis writes down what is to outlive it; None if nowhere."""
    if cache.state_dir is not None:
        return cache.state_dir
    home = state_home()
    return None if home is None else home / "campaign-gateway"


def folder_fault(folder: Path) -> str | None:
    """Why the folder cannot be written, or made; None if it can."""
    above = folder
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        return f"{above} is not a directory"
    return None if os.access(above, os.W_OK | os.X_OK) else f"{above} is not writable"


def seal_gap(cache: Cache) -> str | None:
    """What whoever can write to Redis can do for want of a key; None where there is one, or no Redis."""
    if cache.url == "memory://" or cache.seal is not None:
        return None
    return "no key_file: whoever can write to Redis can make up answers, and take calls out of the ledger"


def cross_checks(settings: Settings) -> Iterator[Mistake]:
    """Each mistake between keys."""
    yield from _check_addresses(settings)
    for name, credential in settings.credentials.items():
        yield from _check_credential(f"credentials.{name}", credential)
    yield from _check_streams(settings)
    yield from _check_budgets(settings)
    yield from _check_clients(settings)
    if settings.tls is not None:
        yield from _check_listen_tls(settings.tls, settings.clients.keys())
    yield from _check_platform(settings.platform)
    yield from _check_webhooks(settings)
    if settings.workers > 1 and settings.cache.url == "memory://":
        problem = "more than 1 needs a Redis, which shares budget, fills and invalidations"
        yield Mistake("workers", problem, "set cache.url, or write 1")
    yield from _check_cache(settings.cache)
    yield from _check_freshness(settings.freshness)


def _check_addresses(settings: Settings) -> Iterator[Mistake]:
    if len(set(settings.listen)) < len(settings.listen):
        yield Mistake("listen", "names one address twice", "remove one of the two")
    if settings.admin_listen in settings.listen and settings.admin_listen.port:
        yield Mistake("admin_listen", "must differ from listen", "give it another port")
    is_private = all(address.is_loopback for address in settings.listen)
    if not settings.clients and not settings.allow_anonymous and not is_private:
        yield Mistake("clients", "none are set", "name some, or listen on loopback, or write allow_anonymous: true")


def _check_listen_tls(tls: ListenTls, clients: Collection[str]) -> Iterator[Mistake]:
    if tls.client_names and tls.client_ca_file is None:
        yield Mistake("tls.client_names", "needs tls.client_ca_file", "name the authority of callers' certificates")
    for name, client in tls.client_names.items():
        if client not in clients:
            yield Mistake(f"tls.client_names.{name}", f"no client is named {client}", "write one of clients")


def _check_platform(platform: Platform) -> Iterator[Mistake]:
    if platform.connect_timeout > platform.timeout:
        yield Mistake("platform.connect_timeout", "must not be above platform.timeout", "lower it, or raise the other")
    is_clear = platform.url.startswith("http:")
    if is_clear and not platform.insecure and not host_is_loopback(platform.url):
        advice = "use https://, or write platform.insecure: true"
        yield Mistake("platform.url", "would send tokens in clear text", advice)


def _check_webhooks(settings: Settings) -> Iterator[Mistake]:
    for name, webhook in settings.webhooks.items():
        for alias in sorted((webhook.streams or frozenset()) - settings.streams.keys()):
            yield Mistake(f"webhooks.{name}.streams", f"no stream is named {alias}", _one_of(settings.streams))
        if webhook.url.startswith("http:") and not webhook.insecure and not host_is_loopback(webhook.url):
            advice = f"use https://, or write webhooks.{name}.insecure: true"
            yield Mistake(f"webhooks.{name}.url", "would send changes in clear text", advice)


def _check_credential(key: str, credential: Credential) -> Iterator[Mistake]:
    secrets = {
        "client_secret_file": credential.client_secret_file,
        "client_secret_env": credential.client_secret_env,
        "private_key_file": credential.private_key_file,
    }
    required = {"client_secret_file", "client_secret_env"} if credential.is_symmetric else {"private_key_file"}
    given = {name for name, value in secrets.items() if value is not None}
    names = " or ".join(sorted(required))
    match len(given & required):
        case 0:
            yield Mistake(
                key, f"{credential.algorithm} needs {names}", "write one of them" if required - {names} else "write it"
            )
        case 1:
            pass
        case _:
            yield Mistake(key, f"{credential.algorithm} needs {names}, and one only", "remove one of the two")
    for name in sorted(given - required):
        yield Mistake(f"{key}.{name}", f"is not for {credential.algorithm}", "remove it, or change algorithm")


def _check_streams(settings: Settings) -> Iterator[Mistake]:
    defaults = [alias for alias, stream in settings.streams.items() if stream.default]
    for alias in defaults[1:]:
        yield Mistake(f"streams.{alias}.default", f"{defaults[0]} is the default already", "remove one of the two")
    aliases: dict[tuple[str | None, ...], str] = {}
    for alias, stream in settings.streams.items():
        credential = settings.credentials.get(stream.credential)
        if credential is None:
            problem = f"no credential is named {stream.credential}"
            yield Mistake(f"streams.{alias}.credential", problem, _one_of(settings.credentials))
        # What tells one stream's campaigns from another's: two aliases for it would spend its calls twice.
        client_id = None if credential is None else credential.client_id
        parts = (stream.stream_id, stream.account_id, stream.app_id or stream.stream_id, client_id)
        if (first := aliases.setdefault(parts, alias)) != alias:
            problem = f"is that of {first} too, with the same account_id, app_id and credential"
            yield Mistake(f"streams.{alias}.stream_id", problem, "write another id, or remove one of the streams")


def _check_budgets(settings: Settings) -> Iterator[Mistake]:
    accounts = {stream.account_id: True for stream in settings.streams.values()}
    for account, budget in settings.budgets.items():
        if account != "default" and account not in accounts:
            yield Mistake(f"budgets.{account}", "no stream has this account_id", _one_of({"default": True, **accounts}))
        if budget.reserved >= budget.calls:
            yield Mistake(f"budgets.{account}.reserve", "must be below calls", f"write less than {budget.calls}")
        if sum(budget.lanes.model_dump().values()) > 1:
            yield Mistake(f"budgets.{account}.lanes", "the shares add up to more than 1", "lower them")


def _check_clients(settings: Settings) -> Iterator[Mistake]:
    for name, client in settings.clients.items():
        for alias in sorted(client.streams - settings.streams.keys()):
            yield Mistake(f"clients.{name}.streams", f"no stream is named {alias}", _one_of(settings.streams))
    holders = Counter(key.sha256 for client in settings.clients.values() for key in client.named_keys.values())
    for name, client in settings.clients.items():
        keys = client.named_keys
        if not keys:
            advice = "write key_sha256: the hash that `campaign-gateway key new` prints, or keys"
            yield Mistake(f"clients.{name}.key_sha256", MISSING, advice)
        own, names = (Counter(getattr(key, what) for key in keys.values()) for what in ("sha256", "name"))
        for place, key in keys.items():
            where = f"clients.{name}.{place}"
            if holders[key.sha256] > 1:
                whose = "another client has the same key" if own[key.sha256] == 1 else "stands there twice"
                advice = "make one for each: campaign-gateway key new"
                yield Mistake(where if place == "key_sha256" else f"{where}.sha256", whose, advice)
            elif names[key.name] > 1:
                yield Mistake(f"{where}.note", "another key of this client has the same", "write another")
            if key.name.startswith("cgk_"):
                yield Mistake(f"{where}.note", *KEY_ITSELF)


def expired_keys(settings: Settings, now: datetime) -> Iterator[Mistake]:
    """Each key that lets nobody in any longer. No start is refused for it."""
    for name, client in settings.clients.items():
        for place, key in client.named_keys.items():
            if key.expires is not None and key.expires <= now:
                problem = f"the key {key.name} expired on {key.expires:%Y-%m-%d %H:%M UTC}"
                yield Mistake(f"clients.{name}.{place}.expires", problem, "remove it")


def _one_of(known: Mapping[str, object]) -> str:
    return f"write {' or '.join(known)}" if known else "write one first"


def _check_cache(cache: Cache) -> Iterator[Mistake]:
    if cache.tls is not None:
        if not cache.url.startswith(("rediss://", "redis+sentinel://", "redis+cluster://")):
            problem = "is for rediss://, redis+sentinel:// and redis+cluster:// only"
            yield Mistake("cache.tls", problem, "change cache.url, or remove it")
        yield from _check_pair("cache.tls", "key_file", cache.tls.key_file, "cert_file", cache.tls.cert_file)
    if cache.state_dir is not None:
        if cache.url != "memory://":
            problem = "is for memory:// only, because Redis stores the calls and the entries"
            yield Mistake("cache.state_dir", problem, "remove it")
        elif not cache.state_dir.is_absolute():
            problem = "must be an absolute path, because the next start must find it from any directory"
            yield Mistake("cache.state_dir", problem, "begin it with /")
    yield from _check_pair("cache", "username", cache.username, "password_file", cache.password_file)
    if (sentinel := cache.sentinel) is not None:
        if not cache.url.startswith("redis+sentinel://"):
            yield Mistake("cache.sentinel", "is for redis+sentinel:// only", "change cache.url, or remove it")
        yield from _check_pair("cache.sentinel", "username", sentinel.username, "password_file", sentinel.password_file)
        if (tls := sentinel.tls) is not None:
            yield from _check_pair("cache.sentinel.tls", "key_file", tls.key_file, "cert_file", tls.cert_file)


def _check_pair(section: str, name: str, value: object, needed: str, found: object) -> Iterator[Mistake]:
    if value is not None and found is None:
        yield Mistake(f"{section}.{name}", f"needs {section}.{needed}", "write both, or neither")


def _check_freshness(freshness: FreshnessSettings) -> Iterator[Mistake]:
    if freshness.min > freshness.max:
        yield Mistake("freshness.min", "must not be above freshness.max", "lower it, or raise the other")
    for status, rule in freshness.status.items():
        if rule.min is not None and rule.max is not None and rule.min > rule.max:
            yield Mistake(f"freshness.status.{status}.min", "must not be above its max", "lower it, or raise the other")
