"""The endpoints of the platform as its contract lists them (section 8), written down apart from the table under test.

In paths and queries `{stream}`, `{account}`, `{id}`, `{type}` and `{name}` stand for values.
"""

from typing import NamedTuple

PREFIXES = {
    "A": "/campaign/api/v2/public/{stream}",
    "B": "/agentassist/api/v1/public/{stream}",
    "C": "/campaign/api/v1/public/{stream}",
    "D": "/api/v2/public/{stream}",
    "E": "/api/1.1/public/{stream}",
}


class Line(NamedTuple):
    """One operation in one family: method, path without its prefix, query, and what its body is."""

    name: str
    kind: str
    method: str
    family: str
    path: str
    query: str
    takes: str

    @property
    def key(self) -> str:
        """Names the line: no operation stands twice in a family."""
        return f"{self.name}-{self.family}"

    @property
    def target(self) -> str:
        """Path and query."""
        return PREFIXES[self.family] + self.path + (f"?{self.query}" if self.query else "")

    @property
    def channels(self) -> list[str]:
        """The kinds of campaign that it is for."""
        if "campaignType=" in self.query and "{type}" not in self.query:
            return ["sms"] if "campaignType=sms" in self.query else ["voice"]
        return ["voice", "sms"] if self.name not in {"outcomes", "call-back"} else ["voice"]


_LINES = """
create              W  POST   A /campaign                    accountId={account}&campaignType={type} json
create              W  POST   D /campaign                    accountId={account}&campaignType=sms json
get                 R  GET    A /campaign/{id}               accountId={account} -
update              W  PUT    A /campaign/{id}               accountId={account}&campaignType={type} json
delete              W  DELETE A /campaign/{id}               accountId={account}&campaignType={type} -
list                RP POST   A /campaign/getAllCampaignDetails accountId={account} json
status              RP POST   A /campaign/{id}/status        accountId={account}&view=status json?
outcomes            RX POST   A /campaign/{id}/status        view=contacts json
start               W  POST   D /campaign/trigger/{id}       accountId={account}&campaignType=voice&trigger=play json?
stop                W  POST   D /campaign/trigger/{id}       accountId={account}&campaignType=voice&trigger=stop json?
start               W  POST   A /campaign/{id}               campaignType=sms&trigger=play json?
stop                W  POST   A /campaign//trigger/{id}      accountId={account}&campaignType=sms&trigger=stop json?
schedule-on         W  POST   A /campaign/schedule           enableSchedule=true&campaignName={name} json
schedule-off        W  POST   A /campaign/schedule           enableSchedule=false&campaignName={name} json?
call-back           W  POST   A /campaign/{id}/callContactAt - json
contact-list-create W  POST   A /campaign/contactList/createContactList accountId={account} json
contact-list-get    R  GET    A /campaign/contactList/{id}   accountId={account} -
contact-list-list   RP POST   A /campaign/contactList/getAllListDetails accountId={account}&type=call json?
contact-list-update W  PUT    A /campaign/contactList/{id}   accountId={account} json
contact-list-delete W  DELETE A /campaign/contactList/{id}   accountId={account} -
contacts            RX GET    A /campaign/contactList/{id}/getAllContacts accountId={account} -
contacts-add        W  POST   E /campaign/contactList/addContacts - json
create              W  POST   B /campaign                    campaignType={type} json
get                 R  GET    B /campaign/{id}               - -
update              W  PUT    B /campaign/{id}               campaignType={type} json
delete              W  DELETE B /campaign/{id}               campaignType={type} -
list                RP POST   B /campaign/getAllCampaignDetails - json
status              RP POST   B /campaign/{id}/status        view=status json?
outcomes            RX POST   B /campaign/{id}/status        view=contacts json
start               W  POST   C /campaign/{id}               campaignType={type}&trigger=play json?
stop                W  POST   C /campaign/{id}               campaignType={type}&trigger=stop json?
contact-list-create W  POST   B /campaign/contactList/createContactList - json
contact-list-get    R  GET    B /campaign/contactList/{id}   - -
contact-list-list   RP POST   B /campaign/contactList/getAllListDetails type=call json?
contact-list-update W  PUT    B /campaign/contactList/{id}   - json
contact-list-delete W  DELETE B /campaign/contactList/{id}   - -
contacts            RX GET    B /campaign/contactList/{id}/getAllContacts accountId={account} -
"""
# Families A, D and E are the second version's, B and C the first's. A dash stands for no query and for no body,
# `json?` for one document or none.
_TAKES = {"json": "json", "json?": "maybe-json", "-": "nothing"}


def _read(line: str) -> Line:
    name, kind, method, family, path, query, takes = line.split()
    return Line(name, kind, method, family, path, "" if query == "-" else query, _TAKES[takes])


SECTION_8 = tuple(map(_read, _LINES.strip().splitlines()))
