import asyncio

import pytest

from campaign_gateway.proxy.tasks import STEADY_SECONDS, Tasks
from tests.support.doubles import begun, turns
from tests.support.virtual_time import virtual_time


@pytest.fixture
async def tasks():
    tasks = Tasks()
    yield tasks
    await tasks.close()


async def test_a_task_outlives_the_request_that_started_it(tasks):
    gate, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await gate.wait()
        done.set()

    async def request() -> None:
        tasks.spawn(work(), name="work")

    await begun(request())
    gate.set()
    await done.wait()


async def test_a_failure_is_logged_with_the_name_of_the_task(tasks, caplog):
    async def work() -> None:
        raise LookupError("what went wrong")

    tasks.spawn(work(), name="fill background")
    await turns()
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", "task fill background failed")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


async def test_one_that_ended_is_not_kept(tasks):
    async def work() -> None:
        return

    tasks.spawn(work(), name="work")
    assert len(tasks._running) == 1
    await turns()
    assert not tasks._running


async def test_close_cancels_what_runs_and_waits_for_its_end(caplog):
    tasks, began, cleaned = Tasks(), asyncio.Event(), []

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("after an await of its own")

    tasks.spawn(work(), name="work")
    await began.wait()
    await tasks.close()
    assert cleaned == ["after an await of its own"]
    assert not caplog.records, "a cancelled task has not failed"


async def test_close_survives_a_task_that_fails_while_it_ends(caplog):
    tasks, began = Tasks(), asyncio.Event()

    async def work() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("at the end")

    tasks.spawn(work(), name="stubborn")
    await began.wait()
    await tasks.close()
    await turns()
    assert [record.getMessage() for record in caplog.records] == ["task stubborn failed"]


class Flaky:
    """Work that has no end, but for the errors that are planted."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.runs = 0

    async def run(self) -> None:
        self.runs += 1
        if not self.errors:
            await asyncio.Event().wait()
        if (error := self.errors.pop(0)) is not None:
            raise error


@pytest.mark.drill(
    "work in the background fails",
    planted="an error in a task",
    seen="begun again after waits that grow, one log line, `/readyz` names it, a metric rises",
)
def test_work_without_an_end_is_begun_again_after_waits_that_grow(caplog):
    counted: list[tuple[str, int]] = []

    async def scenario() -> None:
        tasks, loop = Tasks(lambda *failures: counted.append(failures)), asyncio.get_running_loop()
        work = Flaky(LookupError(), LookupError(), None)
        tasks.supervise(work.run, "listen")
        began, at = loop.time(), []
        for runs in (2, 3, 4):
            while work.runs < runs:
                assert runs == 2 or tasks.failing
                await asyncio.sleep(0.01)
            at.append(loop.time() - began)
        assert at == pytest.approx([0.5, 1.5, 3.5], abs=0.05)
        assert tasks.failing == {"listen": "RuntimeError"}, "to end is a failure, too"
        await asyncio.sleep(STEADY_SECONDS + 0.1)
        assert tasks.failing == {}
        await tasks.close()

    with virtual_time() as loop:
        loop.run_until_complete(scenario())
    assert [name for name, failures in counted if failures] == ["listen"] * 3
    assert ("listen", 0) in counted, "there is a series to see rise"
    assert [record.getMessage() for record in caplog.records] == ["task listen failed", "task listen failed"], (
        "one line for each change of state"
    )


@pytest.mark.drill("work in the background fails")
async def test_a_task_of_the_same_name_that_ends_well_ends_the_failure(caplog):
    tasks = Tasks()
    for work in (Flaky(ValueError()), Flaky(ValueError())):
        tasks.spawn(work.run(), "poll")
        await turns()
        assert tasks.failing == {"poll": "ValueError"}
    assert len(caplog.records) == 1

    async def good() -> None:
        return

    tasks.spawn(good(), "poll")
    await turns()
    assert not tasks.failing


async def test_close_ends_what_is_supervised(tasks):
    work = Flaky()
    tasks.supervise(work.run, "listen")
    await turns()
    await tasks.close()
    assert (work.runs, asyncio.all_tasks()) == (1, {asyncio.current_task()})
