"""What a host, a proxy and a certificate come to. Pure: facts in, findings out."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from campaign_gateway.doctor.findings import Check, Finding, error, ok, warning
from campaign_gateway.doctor.reach import Connected, Handshake, Names, Tunnel

EXPIRES_SOON_SECONDS = 14 * 86_400.0
"""As long before as the alert of `certificate_expiry_timestamp_seconds` fires ..."""
EXPIRES_SOON_PART = 0.25
"""... or at this part of a life that is shorter: by then who renews it by itself has done so."""
MOST_NAMES = 3
_PROXY_WANTS_A_PASSWORD = 407


def name(check: Check, host: str, names: Names) -> Finding:
    """Whether the host has addresses."""
    if names.addresses:
        return ok(check, host, ", ".join(names.addresses))
    return error(check, host, f"has no address: {names.fault}", f"check the name {host}, and this machine's resolver")


def tcp(check: Check, subject: str, seen: Connected, patience: float, setting: str) -> Finding:
    """Whether it can be connected to, within what a gateway waits.

    Args:
        check: which.
        subject: the host and port.
        seen: what was seen.
        patience: seconds that a gateway waits ...
        setting: ... by this setting.
    """
    if seen.address and seen.seconds <= patience:
        return ok(check, subject, f"connected to {seen.address} in {seen.seconds * 1e3:.0f} ms")
    if seen.address:
        found = f"connected to {seen.address} after {seen.seconds:.2f} s, and {setting} is {patience:g} s"
        return error(check, subject, found, f"raise {setting}, or find out what is slow on the way")
    if seen.is_slow:
        return error(check, subject, seen.fault, "let this machine through to it: firewall, network policy, route")
    return error(check, subject, seen.fault, "check host and port, and that something listens there")


def connect(subject: str, target: str, tunnel: Tunnel, setting: str) -> Finding:
    """Whether the proxy, which this setting names, connects to the target."""
    check, asked = Check.PROXY_CONNECT, f"CONNECT {target}"
    if 200 <= tunnel.status < 300:  # noqa: PLR2004 - RFC 9110 section 9.3.6
        return ok(check, subject, f"{asked}: status {tunnel.status}")
    if not tunnel.status:
        return error(check, subject, f"{asked}: {tunnel.reason}", f"name an HTTP proxy in {setting}")
    found = f"{asked}: status {tunnel.status} {tunnel.reason}".rstrip()
    if tunnel.status == _PROXY_WANTS_A_PASSWORD:
        return error(check, subject, found, "have the proxy let this machine in without a password")
    return error(check, subject, found, f"have the proxy allow {target}")


def tls(check: Check, subject: str, seen: Handshake, authorities: str, now: float) -> Finding:
    """Whether TLS comes up, and whose certificate was shown.

    Args:
        check: which.
        subject: the host and port.
        seen: what was seen.
        authorities: the setting that names them.
        now: seconds since 1970.
    """
    whose = describe(seen.certificate, now)
    if not seen.version:
        found = f"{seen.fault}; {whose}" if whose else seen.fault
        return error(check, subject, found, _cure(seen.fault, authorities))
    if _is_ending(seen.certificate, now):
        return warning(check, subject, f"{seen.version}, {whose}", "have the certificate renewed")
    return ok(check, subject, f"{seen.version}, {whose}")


def _cure(fault: str, authorities: str) -> str:
    words = fault.lower()
    if "expired" in words:
        return "have the certificate renewed, and check this machine's clock"
    if "not yet valid" in words:
        return "check this machine's clock"
    if "mismatch" in words or "not valid for" in words:
        return "use a name that the certificate is for"
    if "issuer" in words or "self" in words or "verify" in words:
        return f"name the authority in {authorities}, if you trust who has put this certificate here"
    if "version number" in words or "record" in words:
        return "what answers there does not speak TLS: check scheme and port"
    if "protocol" in words or "version" in words:
        return "both sides need one version of TLS in common"
    return "check what answers there, and what it asks of certificates"


def describe(certificate: bytes, now: float) -> str:
    """Whose it is, from whom, and until when; empty if there is none."""
    if not certificate:
        return ""
    try:
        found = x509.load_der_x509_certificate(certificate)
    except ValueError:
        return "a certificate that cannot be read"
    names = _names(found) or [_common_name(found.subject)]
    shown = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
    ends = found.not_valid_after_utc
    days = (ends.timestamp() - now) / 86_400
    when = (
        f"expires {ends:%Y-%m-%d %H:%M} UTC, in {days:.0f} days" if days >= 0 else f"expired {ends:%Y-%m-%d %H:%M} UTC"
    )
    return f"certificate of {shown} by {_common_name(found.issuer)}, {when}"


def _names(certificate: x509.Certificate) -> Sequence[str]:
    try:
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    except (x509.ExtensionNotFound, ValueError):
        return []
    named = extension.value
    return [_plain(str(one.value)) for one in named] if isinstance(named, x509.SubjectAlternativeName) else []


def _common_name(of: x509.Name) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        if found := of.get_attributes_for_oid(kind):
            return _plain(str(found[0].value))
    return "nobody"


def _plain(text: str) -> str:
    return "".join(char for char in text[:100] if char.isprintable())


def _is_ending(certificate: bytes, now: float) -> bool:
    try:
        found = x509.load_der_x509_certificate(certificate)
    except ValueError:
        return False
    begins, ends = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    return ends - now < min(EXPIRES_SOON_SECONDS, EXPIRES_SOON_PART * (ends - begins))
