"""Which pages a browser may ask for: without a client key nothing else keeps out those of other sites.

1. A page of another site that asks for this one is named by the browser, in `Sec-Fetch-Site` or `Origin`.
2. A page whose own name was made to point here (DNS rebinding) is of the same site to the browser, and of a secure
   context to nobody, so neither field need come. Only `Host` tells: it has the page's name, which somebody answers for
   in the public DNS. Addresses, and names that nobody can have there, are what the gateway is reached by.
"""

import ipaddress
from collections.abc import Collection

from aiohttp import hdrs
from multidict import CIMultiDictProxy

SEC_FETCH_SITE = "Sec-Fetch-Site"
PRIVATE = ("localhost", "local", "internal", "svc", "test", "home.arpa")
"""The ends of names that the public DNS does not give out: RFC 6761, RFC 6762, RFC 8375, ICANN's resolution on
`.internal` of 2024; `svc`, as Kubernetes shortens them, has never been delegated."""


def foreign_site(headers: CIMultiDictProxy[str], hosts: Collection[str]) -> str | None:
    """Why what was asked may be for the page of another site; None where it cannot.

    Args:
        headers: of the request, with one `Host` at the most.
        hosts: names in lower case that the gateway is reached by, beside those that are private; what is under one is
            too.
    """
    site, origin, host = (headers.get(name) for name in (SEC_FETCH_SITE, hdrs.ORIGIN, hdrs.HOST))
    if host is not None and not _is_ours(host, hosts):
        return "the name in Host is none that the gateway is known by: add it to hosts in the settings"
    is_foreign = (
        site not in {"same-origin", "none"}
        if site is not None
        else origin is not None and origin.partition("://")[2].lower() != (host or "").lower()
    )
    return "a page of another site asks, and without client keys that is refused" if is_foreign else None


def _is_ours(host: str, hosts: Collection[str]) -> bool:
    text = host.lower()
    name = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0].removesuffix(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        # No name without a dot is anybody's: ICANN has forbidden them in 2013.
        return name != "" and ("." not in name or any(f".{name}".endswith(f".{end}") for end in (*PRIVATE, *hosts)))
    return True
