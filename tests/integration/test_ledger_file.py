"""Real processes that change one file of calls at the same time."""

import asyncio
import sys
import textwrap
from pathlib import Path

from campaign_gateway.policy.ledger import Allowance, Ledger
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.ledger_file import FileLedgers
from tests.support.gateway import ROOT

PROCESSES, CHANGES = 3, 300

PROGRAM = textwrap.dedent("""
    import asyncio, sys
    from dataclasses import replace
    from pathlib import Path
    from campaign_gateway.policy.ledger import Allowance, Ledger
    from campaign_gateway.store.clock import StoreClock
    from campaign_gateway.store.local.ledger_file import FileLedgers

    def count(ledger, now):
        return Ledger(learned=(ledger.learned if ledger else 0) + 1, learned_at=now), None

    async def main():
        ledgers = FileLedgers(Path(sys.argv[1]), "url", lambda _: Allowance(9, 60.0, 1.0, 1.0), StoreClock())
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(int(sys.argv[2])):
            await ledgers.change("acc-1", count)
            await asyncio.sleep(0)

    asyncio.run(main())
""")


async def test_no_change_is_lost_between_processes(tmp_path: Path) -> None:
    command = (sys.executable, "-c", PROGRAM, str(tmp_path), str(CHANGES))
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe) for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline()
    await asyncio.gather(*(process.communicate(b"\n") for process in processes))
    assert [process.returncode for process in processes] == [0] * PROCESSES

    def look(ledger: Ledger | None, _now: float) -> tuple[Ledger, int | None]:
        assert ledger is not None
        return ledger, ledger.learned

    reader = FileLedgers(tmp_path, "url", lambda _: Allowance(9, 60.0, 1.0, 1.0), StoreClock())
    assert await reader.change("acc-1", look) == PROCESSES * CHANGES
