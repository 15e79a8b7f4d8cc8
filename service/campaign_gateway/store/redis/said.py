"""What a log of changes had said last when it was read."""

from dataclasses import dataclass, replace

from campaign_gateway.policy.changes import Addition, LogState, Told, degradations


@dataclass(frozen=True, slots=True)
class Said:
    """The log's state, and what it had said of some campaigns."""

    state: LogState
    told: dict[str, Told]
    raw: dict[str, bytes]
    """The values as they were read, by campaign, and that of the state."""
    is_new: bool
    """Whether there is no log yet."""

    def with_beginning(self, addition: Addition) -> Addition:
        """The addition, after what a log that is new has to say first."""
        if not self.is_new:
            return addition
        return replace(addition, changes=(*degradations(self.state), *addition.changes))
