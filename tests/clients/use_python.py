"""What a caller does with the generated Python client; run by its virtual environment. Prints what it saw as JSON.

Arguments: the folder of the client, the gateway's address, a client key.
"""

import json
import pkgutil
import sys
from importlib import import_module

PACKAGE = "campaign_gateway_client"


def main(folder: str, url: str, key: str) -> None:
    sys.path.insert(0, folder)
    package = import_module(PACKAGE)
    for module in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."):
        import_module(module.name)
    models = import_module(f"{PACKAGE}.models")
    calls = import_module(f"{PACKAGE}.api.campaigns")
    api = {
        name: import_module(f"{calls.__name__}.{name}")
        for name in ("list_campaigns", "get_campaign", "create_campaign")
    }
    client = package.AuthenticatedClient(base_url=url, token=key)

    page = api["list_campaigns"].sync(client=client, type_=models.ListCampaignsType.VOICE, limit=2)
    assert isinstance(page, models.CampaignPage), page
    ids = [row.field_id for row in page.data.results]
    batch = api["list_campaigns"].sync(client=client, ids=[*ids, "cd-nothing"])
    assert isinstance(batch, models.CampaignBatch), batch
    one = api["get_campaign"].sync(ids[0], client=client)
    assert isinstance(one, models.CampaignAnswer), one
    cut = api["get_campaign"].sync(ids[0], client=client, fields=["name", "status"])
    missing = api["get_campaign"].sync("cd-nothing", client=client)
    assert isinstance(missing, models.Problem), missing
    stranger = api["get_campaign"].sync(ids[0], client=package.AuthenticatedClient(base_url=url, token="cgk_wrong"))
    assert isinstance(stranger, models.Problem), stranger
    change = models.CampaignChange(name="", description="", contact_lists=[], priority="3")
    refused = api["create_campaign"].sync(client=client, body=change, type_=models.CreateCampaignType.VOICE)
    assert isinstance(refused, models.Problem), refused
    seen = {
        "ids": ids,
        "name": one.data.name,
        "hours": one.data.dialing_strategy.calling_hours.timezone,
        "cut": cut.data.to_dict(),
        "batch": [row.status for row in batch.results],
        "in_batch": batch.results[-1].problem.type_,
        "problems": [problem.type_ for problem in (missing, stranger, refused)],
    }
    print(json.dumps(seen))  # noqa: T201 - that is its answer


main(*sys.argv[1:])
