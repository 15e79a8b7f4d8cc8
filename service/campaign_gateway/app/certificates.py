"""Until when the settings' certificates are good, for a metric: whoever has to replace one is to know it before."""

import re
from pathlib import Path

from campaign_gateway.settings import Settings, certificates_of, validity_of
from campaign_gateway.telemetry.metrics import Gauges

_NAME = "certificate_expiry_timestamp_seconds"
_READ_ONCE = re.compile(r"platform\.ca_file|webhooks\..*")
"""What stays in use until the next start, or the next change of webhooks, whatever is written into its file meanwhile.
Redis' are read for each connection."""


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
        if not _READ_ONCE.fullmatch(self._key):
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


class Certificates:
    """The metric of when each certificate that the settings name ends to be good."""

    def __init__(self, gauges: Gauges) -> None:
        """None yet."""
        self._gauges = gauges
        self._files: dict[str, CertificateFile] = {}

    def show(self, settings: Settings) -> None:
        """Publishes those of these settings, and no others. What takes a restart stays as it is in use."""
        self._gauges.drop(_NAME)
        kept, text = (
            self._files,
            "When the certificates that a setting names are good no longer, in seconds since 1970.",
        )
        self._files = {
            # A change of webhooks opens all of them anew.
            key: CertificateFile(key, path) if key not in kept or key.startswith("webhooks.") else kept[key]
            for key, path in certificates_of(settings).items()
        }
        for key, file in self._files.items():
            self._gauges.add(_NAME, text, file.ends, setting=key)
