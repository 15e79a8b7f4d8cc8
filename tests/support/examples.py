"""How many generated cases a run makes: all of them in CI, a fifth on a developer's machine.

`CI=true` or `HYPOTHESIS_PROFILE=full` choose all, `HYPOTHESIS_PROFILE=quick` the fifth. A test that names no number makes 100.
"""

import os

from hypothesis import settings

FULL, QUICK = "full", "quick"
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", FULL if os.environ.get("CI") == "true" else QUICK)


def scaled(full: int) -> int:
    """So many of `full` cases, at least one."""
    return full if PROFILE == FULL else max(1, full // 5)


SEEDS = range(1, 1 + scaled(2))
"""Of runs on virtual time that take seconds each: two, or one."""

settings.register_profile(FULL, max_examples=scaled(100), deadline=None)
settings.register_profile(QUICK, max_examples=scaled(100), deadline=None)
settings.load_profile(PROFILE)
