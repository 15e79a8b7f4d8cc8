"""Until when the settings' certificates are good, for a metric: whoever has to replace one is to know it before."""

from pathlib import Path

from campaign_gateway.settings import Settings, certificates_of, validity_of
from campaign_gateway.telemetry.metrics import Gauges

READ_ONCE = frozenset({"platform.ca_file"})
"""What stays in use until the next start, whatever is written into its file meanwhile. Redis' are read for each
connection."""


class CertificateFile:
    """A file of certificates, that may be replaced."""

    def __init__(self, key: str, path: Path) -> None:
        """A file, which is read.

        Args:
            key: the setting that names it.
            path: where it is.
        """
        self._key, self._path = key, path
        self._seen = b""
        self._ends = float("nan")
        self._look()

    def ends(self) -> float:
        """When what is in use is good no longer, in seconds since 1970; not a number if that cannot be read."""
        if self._key not in READ_ONCE:
            self._look()
        return self._ends

    def _look(self) -> None:
        try:
            found = self._path.read_bytes()
            if found != self._seen:
                self._ends = validity_of(self._key, found).ends
                self._seen = found
        except (OSError, ValueError):
            # Caught while it is replaced, perhaps: what was read before is what was in use before.
            return


def show_certificates(gauges: Gauges, settings: Settings) -> None:
    """Publishes when each certificate that the settings name ends to be good."""
    text = "When the certificates that a setting names are good no longer, in seconds since 1970."
    for key, path in certificates_of(settings).items():
        gauges.add("certificate_expiry_timestamp_seconds", text, CertificateFile(key, path).ends, setting=key)
