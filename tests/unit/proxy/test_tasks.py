import asyncio

import pytest

from campaign_gateway.proxy.tasks import Tasks
from tests.support.doubles import turns


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

    await asyncio.create_task(request())  # noqa: TID251
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
