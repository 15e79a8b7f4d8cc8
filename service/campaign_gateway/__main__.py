"""The process: signals first, and then the command line.

An import of the command line takes a tenth of a second, and a signal that comes meanwhile has to end the process as it
would later on. Nothing has been begun until then, so there is nothing to be put away.
"""

import os
import signal
import sys

SERVING = ("serve", "demo", "sandbox")
"""The commands that run until they are stopped. The others are over soon, and end as any program does."""
STOPS = (signal.SIGTERM, signal.SIGINT)
OTHERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main() -> None:
    """Runs the command of this process."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in SERVING:
        for number in STOPS:
            signal.signal(number, _leave)
    if command == "serve":
        # Inherited by whatever is started meanwhile; once it serves, each is ignored with a line in the log.
        for number in OTHERS:
            signal.signal(number, signal.SIG_IGN)
    from campaign_gateway import cli  # noqa: PLC0415

    try:
        cli.main()
    finally:
        if command in SERVING:
            # Python puts the defaults back as it ends: who asks once more is not to change the exit code.
            for number in STOPS + OTHERS:
                signal.signal(number, signal.SIG_IGN)


def _leave(_number: int, _frame: object) -> None:
    os._exit(0)


if __name__ == "__main__":
    main()
