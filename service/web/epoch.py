"""How long an authorisation may be remembered."""


class Epoch:
    """A number that moves when what was authorised before need not be so any more: a key, the settings, a shutdown."""

    def __init__(self) -> None:
        self.number = 0

    def end(self) -> None:
        """From here on, everything is authorised anew."""
        self.number += 1
