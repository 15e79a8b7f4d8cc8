import random

import pytest

from campaign_gateway.sandbox import seeds
from campaign_gateway.sandbox.campaigns import CampaignStore, Kind, Status
from campaign_gateway.sandbox.marks import mark, moment
from campaign_gateway.sandbox.schedule import Plan


@pytest.fixture
def store(clock):
    return CampaignStore(now=clock, rng=random.Random(1), preparing_seconds=1, run_seconds=120)


@pytest.fixture
def make(store, clock):
    def made(form="simple", **fields):
        drawn = seeds.campaign_fields(random.Random(2), form, "One", dnc_list_id="cl-1")
        return store.create(seeds.kind_of(form), drawn | fields)

    return made


def marks(campaign):
    return campaign.fields["updatedAt"], campaign.fields["campaignInstanceUpdatedAt"]


def test_a_create_stores_a_revision_earlier_than_its_own_moment(make, clock):
    campaign = make()
    assert campaign.fields["createdAt"] == mark(clock.now)
    assert 0.188 < clock.now - moment(campaign.fields["updatedAt"]) < 0.344
    assert campaign.status == "Ready"


def test_voice_prepares_and_gets_ready_by_itself(store, make, clock):
    campaign = make("Preview")
    assert store.get(campaign.id).status == "Preparing"
    clock.advance(0.999)
    assert store.get(campaign.id).status == "Preparing"
    clock.advance(0.002)
    ready = store.get(campaign.id)
    assert ready.status == "Ready"
    assert ready.fields["updatedAt"] == mark(clock.now - 0.001)


def test_a_run_completes_by_itself_and_every_step_moves_both_revisions(store, make, clock):
    campaign = make()
    seen = [marks(campaign)]
    store.set_status(campaign, Status.ACTIVE)
    for _ in range(2):
        seen.append(marks(store.get(campaign.id)))
        clock.advance(120)
    assert store.get(campaign.id).status == "Completed"
    assert len({updated for updated, _ in seen}) == len({instance for _, instance in seen}) == 3
    assert store.get(campaign.id).fields["campaignInstanceId"].startswith("cid-")


def test_a_stop_ends_the_run_for_good(store, make, clock):
    campaign = store.set_status(make(), Status.ACTIVE)
    store.set_status(campaign, Status.STOPPED)
    clock.advance(1_000)
    assert store.get(campaign.id).status == "Stopped"


def test_a_scheduled_campaign_starts_completes_and_is_rescheduled(store, make, clock):
    day = 86_400
    plan = Plan(clock.now + 60, clock.now + 1.5 * day, every_days=1)
    campaign = store.set_plan(make(), plan)
    assert campaign.fields["schedule"] == {"isSchedulingEnabled": True, "isRecurrenceEnabled": True}
    seen = [campaign.status]
    for seconds in (60, 120, day - 120, 120, day):
        clock.advance(seconds)
        seen.append(store.get(campaign.id).status)
    assert seen == ["Scheduled", "Active", "Rescheduled", "Active", "Completed", "Completed"]


def test_a_long_sleep_catches_up_with_the_revisions_of_the_moments(store, make, clock):
    start = clock.now + 60
    campaign = store.set_plan(make(), Plan(start, start + 1))
    clock.advance(10_000)
    assert store.get(campaign.id).fields["updatedAt"] == mark(start + 120)


def test_a_schedule_switched_off_does_not_start(store, make, clock):
    campaign = store.set_plan(make(), Plan(clock.now + 60, clock.now + 90))
    store.set_plan(campaign, None)
    clock.advance(100)
    assert store.get(campaign.id).status == "Ready"


def test_an_edit_moves_the_revision_even_on_a_frozen_clock(store, make):
    campaign = make()
    seen = {store.edit(campaign.id, {"priority": str(n)}).fields["updatedAt"] for n in (1, 2)}
    assert len(seen) == 2
    assert campaign.fields["updatedAt"] not in seen


def test_a_quiet_edit_leaves_the_revisions(store, make):
    campaign = make()
    edited = store.edit(campaign.id, {"name": "Other NAME"}, quiet=True)
    assert marks(edited) == marks(campaign)
    assert (edited.name, edited.fields["lname"]) == ("Other NAME", "other name")


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_status_changes(store, make, quiet):
    campaign = make()
    assert (marks(store.set_status(campaign, Status.ACTIVE, quiet=quiet)) == marks(campaign)) is quiet


def test_an_edit_can_set_or_remove_a_revision(store, make):
    campaign = make()
    assert store.edit(campaign.id, {"updatedAt": "yesterday"}).fields["updatedAt"] == "yesterday"
    assert "updatedAt" not in store.edit(campaign.id, {}, without=frozenset({"updatedAt"})).fields
    assert store.edit(campaign.id, {}).fields["updatedAt"].endswith("Z")


def test_a_status_set_by_hand_stays(store, make, clock):
    campaign = make("Preview")
    store.edit(campaign.id, {"status": "Paused"})
    clock.advance(100)
    assert store.get(campaign.id).status == "Paused"


def test_what_is_deleted_is_missing(store, make):
    campaign = make()
    assert store.delete(campaign.id) == campaign
    assert store.get(campaign.id) is None
    assert store.edit(campaign.id, {}) is None
    assert store.delete(campaign.id) is None
    assert store.all() == []
    assert store.by_name("One") is None


def test_an_older_moment_shows_older_versions(store, make, clock):
    old, gone = make(), make()
    clock.advance(10)
    young = make()
    store.edit(old.id, {"name": "New name"})
    store.delete(gone.id)
    clock.advance(2)
    assert [campaign.name for campaign in store.all()] == ["New name", "One"]
    assert store.all(lag_seconds=5) == [old, gone]
    assert store.all(lag_seconds=1)[1].id == young.id
    assert store.all(lag_seconds=100) == []


def test_names_find_the_newest(store, make):
    make()
    newest = make()
    assert store.by_name("One") == newest


def test_seeds_are_the_same_for_a_seed_and_always_there(store, clock):
    def made(seed):
        return seeds.campaigns(random.Random(seed), 40, now=clock.now, dnc_list_id="cl-1", run_seconds=120)

    assert made(1) == made(1)
    assert made(1) != made(2)
    for campaign in made(1):
        store.seed(campaign)
    assert len(store.all(lag_seconds=1e6)) == 40
    assert len({campaign.name for campaign in store.all()}) == 40
    assert {campaign.kind for campaign in store.all()} == set(Kind)
    assert [campaign.status for campaign in store.all()].count("Active") == 1


def test_seeded_phone_numbers_are_fictional(clock):
    for campaign in seeds.campaigns(random.Random(1), 60, now=clock.now, dnc_list_id="cl-1", run_seconds=1):
        assert campaign.fields["dialingStrategy"]["callerId"]["phoneNumber"].startswith("+120255501")
        assert len(campaign.fields["dialingStrategy"]["callerId"]["phoneNumber"]) == 12
