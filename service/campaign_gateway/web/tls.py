"""TLS in front of the API: the certificate that callers see, and the authority of theirs, out of files that may change.

A connection keeps what it began with; the next one begins with the newest files that can be used.
"""

import asyncio
import hashlib
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

LOOK_SECONDS = 1.0
"""How often the files are looked at."""
_NAMES = {"DNS", "URI"}
_log = logging.getLogger(__name__)


class TlsFiles:
    """A context for a listener, made of files; by their content it is seen that they changed."""

    def __init__(self, cert_file: Path, key_file: Path | None = None, client_ca_file: Path | None = None) -> None:
        """Reads the files.

        Args:
            cert_file: the certificate and what it is signed with, in PEM.
            key_file: its key, without a password; None if it is in `cert_file`.
            client_ca_file: the authorities of callers, each of which then has to show a certificate.

        Raises:
            OSError: a file cannot be read or used.
        """
        self._cert_file, self._key_file, self._client_ca_file = cert_file, key_file, client_ca_file
        self._seen = self._digest()
        self.context = _NewestContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.newest = self._load()
        self.fault: str | None = None
        """Why the files that are there now are not used; None if they are."""

    async def watch(self) -> None:
        """Looks at the files once a second, for as long as it runs."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Uses the files for further connections if they changed; if they are of no use, those before stay."""
        try:
            digest = self._digest()
            if digest == self._seen:
                return
            self._seen = digest
            self.context.newest = self._load()
        except (OSError, ValueError) as error:
            fault = f"{self._cert_file} or a file beside it cannot be used ({_reason(error)})"
            if fault != self.fault:
                _log.warning("%s: the previous certificate stays in use", fault)
            self._seen, self.fault = self._seen if isinstance(error, ssl.SSLError) else b"", fault
            return
        self.fault = None
        _log.info("certificate file %s or a file beside it changed: new connections use it", self._cert_file)

    def _digest(self) -> bytes:
        paths = (self._cert_file, self._key_file, self._client_ca_file)
        return hashlib.sha256(
            b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths if path is not None)
        ).digest()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # A key with a password would ask for it at the terminal.
        context.load_cert_chain(self._cert_file, self._key_file, password="")
        if self._client_ca_file is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._client_ca_file)
        return context


class _NewestContext(ssl.SSLContext):
    """What a listener keeps for ever, and each connection asks once."""

    newest: ssl.SSLContext

    @override
    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self.newest.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def _reason(error: Exception) -> str:
    # The texts of others may quote what they have read.
    return (getattr(error, "reason", None) or getattr(error, "strerror", None) or "not PEM").lower()


def names_of_peer(transport: asyncio.BaseTransport | None) -> Iterator[str]:
    """The names in the certificate that the caller has shown: of hosts and URIs, or its common name if it has none."""
    shown = None if transport is None else transport.get_extra_info("peercert")
    if not shown:
        return
    names = [name for kind, name in shown.get("subjectAltName", ()) if kind in _NAMES]
    subject = (pair for parts in shown.get("subject", ()) for pair in parts)
    yield from names or [value for kind, value in subject if kind == "commonName"]
