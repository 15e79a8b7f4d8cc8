"""How long what was found out once may be remembered."""

from collections.abc import Callable


class Epoch:
    """A number that moves when what was found out before need not be so any longer."""

    def __init__(self) -> None:
        self.number = 0
        self.until = float("inf")
        """The moment, on its owner's clock, from which nothing is known of changes, until it is moved on."""
        self.watchers: list[Callable[[], None]] = []
        """Called at each end, for those who hold something for longer than a request."""

    def end(self) -> None:
        """From here on, everything is found out anew."""
        self.number += 1
        for look in self.watchers:
            look()
