import asyncio

import pytest

from campaign_gateway.problems import Problem
from campaign_gateway.sandbox.magic import MAGIC_IDS
from tests.support.waiting import until

NOT_OF_A_READ_BY_ID = {Problem.CONTACT_LIST_NOT_FOUND}


def test_each_problem_that_can_come_of_a_platform_has_an_id():
    of_platform = {
        problem for problem in Problem if problem.name.startswith("UPSTREAM_") or problem.name.endswith("_NOT_FOUND")
    } - NOT_OF_A_READ_BY_ID
    assert {name for name in MAGIC_IDS if name.startswith("problem-")} == {
        f"problem-{problem.value.name}" for problem in of_platform
    }


def test_a_row_says_which_problem_it_is():
    for problem in Problem:
        if (row := MAGIC_IDS.get(f"problem-{problem.value.name}")) is not None:
            assert row.gives.startswith(f"{problem.status} {problem.value.name}")


@pytest.mark.parametrize(
    ("campaign_id", "status"),
    [
        ("problem-upstream-unauthorized", 401),
        ("problem-upstream-unauthorized-7", 401),
        ("problem-upstream-unauthorizedly", 400),
        ("problem-upstream", 400),
        ("problem-upstream-paused", 429),
        ("problem-campaign-not-found", 400),
        ("answer-stale", 200),
        ("answer-stale-7", 200),
        ("answer-stalely", 400),
    ],
)
async def test_an_id_is_one_of_the_table_or_begins_with_one(platform, campaign_id, status):
    assert (await platform.get(campaign_id)).status == status


async def test_one_that_is_good_once_is_so_for_each_id(platform):
    for campaign_id in ("answer-stale", "answer-stale-1"):
        assert [(await platform.get(campaign_id)).document["status"] for _ in range(3)] == ["success", "error", "error"]


async def test_what_exists_is_a_campaign_like_others_until_it_is_deleted(platform):
    assert (await platform.get("answer-stale-1")).document["data"]["_id"] == "answer-stale-1"
    assert "answer-stale-1" in str((await platform.rows(type="sms", limit=50)).document["data"]["results"])
    assert (await platform.control("DELETE", "/campaigns/answer-stale-1")).status == 200
    assert (await platform.control("GET", "/campaigns/answer-stale-1")).status == 404
    await platform.get("answer-stale-1")
    assert (await platform.control("GET", "/campaigns/answer-stale-1")).status == 404


async def test_what_waits_for_long_does_not_hold_the_end_up(start):
    platform = await start()
    waiting = asyncio.ensure_future(platform.get("problem-upstream-timeout"))  # noqa: TID251 - it is awaited below
    await until(lambda: platform.sandbox.log.count)
    await platform.sandbox.stop()
    # The fault waits for half a minute, and the end lets it go.
    assert (await waiting).status == 400
