"""Examples of bodies, under a name for each, by the name of their schema. Names, ids and numbers are invented."""

from collections.abc import Mapping
from typing import Any

from campaign_gateway.problems import Problem
from campaign_gateway.web.docs.components import EXAMPLE_ID
from campaign_gateway.web.docs.problem_pages import problem_document

_SMS_ID = "cd-b83d01f6-2c47-5e9a-8f10-6a4d9c7e2b55"
_LIST_ID = "cl-e05a9c3-1f7d-4b68-8a42-6d3b9e7f1c20"
_RUN_ID = "cid-c81e4d7-35f0-4a9b-92c6-07d1e8b5a3f4"
_CURSOR = "3f9c1a7e-b2d04e61-1770127611377-0"
REQUEST_ID = "0af7651916cd43dd8448eb211c80319c"
_MADE, _CHANGED = "2026-02-03T14:05:11.214Z", "2026-02-03T14:06:48.902Z"

_HOURS = {
    "frequency": "WEEKLY",
    "timezone": "America/New_York",
    "days": [{"day": "MO", "start": "9:00 AM", "end": "6:00 PM"}],
}
_CALLER = {"callerId": {"phoneNumber": "+12025550110"}, "callingHours": _HOURS}
_DIALING = {
    **_CALLER,
    "dialingOrder": "FIFO",
    "maxAttemptsPerRecord": 3,
    "defaultRetryPeriod": 15,
    "maxRingTime": 25,
}
_VOICE = {
    "name": "Museum visit survey",
    "description": "A short survey for visitors of the past week.",
    "dncLists": {"name": "Museum opt-outs"},
    "priority": "3",
    "dialingMode": "Agentless",
    "dialingStrategy": _DIALING,
    "schedule": {"isSchedulingEnabled": False},
    "contactLists": ["Museum visitors"],
}
_SMS = {
    "name": "Festival reminder",
    "description": "One reminder on the morning of the festival.",
    "priority": "5",
    "dialingStrategy": _CALLER,
    "message": {"message": "Doors open at ten."},
    "schedule": {"isSchedulingEnabled": False},
    "contactLists": ["Festival guests"],
    "format": "simple",
}
_TIMES = {"createdAt": _MADE, "updatedAt": _CHANGED}
_STORED_VOICE = {
    "_id": EXAMPLE_ID,
    **_VOICE,
    "lname": "museum visit survey",
    "dncLists": {"id": "cl-9d4e1b7-60c2-4f8a-b3d5-17e8a2c6f094", "name": "Museum opt-outs"},
    "experienceFlow": "cf-61a4d7c3-0e8b-5f29-b5d1-8c3f9e70a246",
    "status": "Ready",
    **_TIMES,
}
_STORED_SMS = {"_id": _SMS_ID, **_SMS, "lname": "festival reminder", "status": "Ready", **_TIMES}
_ROW = {
    name: _STORED_VOICE[name] for name in ("_id", "name", "priority", "status", "dialingMode", "createdAt", "updatedAt")
}
_LIST = {
    "_id": _LIST_ID,
    "name": "Museum visitors",
    "description": "Visitors of the past week.",
    "isActive": True,
    "totalRecordCount": 3,
    "status": "Ready",
    "isListInUse": True,
    "listType": "call",
    "campaignInUse": [{"id": EXAMPLE_ID, "name": "Museum visit survey"}],
    "source": "passiveApi",
    "columns": [],
    "files": [],
    **_TIMES,
}
_DONE = {"status": "success", "message": "Campaign Museum visit survey retrieved successfully"}
_PAGE = {"skip": 0, "limit": 50, "hasMore": False, "totalPages": 1, "totalResults": 1}


def problem_example(problem: Problem, detail: str) -> Mapping[str, Any]:
    """A problem document of this type."""
    told: dict[str, Any] = {"type": problem.type, "title": problem.title, "status": problem.status, "detail": detail}
    return {**told, "request_id": REQUEST_ID}


EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "CampaignAnswer": {
        "voice": {**_DONE, "data": _STORED_VOICE},
        "sms": {"status": "success", "message": "", "data": _STORED_SMS},
        "fields": {"data": {"name": "Museum visit survey", "status": "Ready"}},
    },
    "CampaignsAnswer": {
        "page": {"status": "success", "message": "", "data": {"results": [_ROW], **_PAGE}},
        "ids": {
            "results": [
                {"id": EXAMPLE_ID, "status": 200, "etag": '"5d41402abc4b2a76"', "age": 3, "campaign": _STORED_VOICE},
                {
                    "id": "cd-0",
                    "status": 404,
                    "problem": problem_example(
                        Problem.CAMPAIGN_NOT_FOUND, "the platform knows no campaign with this id"
                    ),
                },
            ]
        },
    },
    "CampaignStatusAnswer": {
        "active": {"status": "success", "data": {"id": EXAMPLE_ID, "status": "Active", "name": "Museum visit survey"}}
    },
    "OutcomesAnswer": {
        "page": {
            "status": "success",
            "data": {
                "results": [
                    {
                        "phoneNumber": "12025550151",
                        "uniqueId": "",
                        "dialerOutcome": "completed",
                        "numberOfAttemptsSoFar": 1,
                        "agentDispositionCodes": [],
                        "botOutboundStatus": "userHangUp",
                    }
                ],
                "page": 1,
                "limit": 100,
                "totalPages": 1,
                "totalResults": 1,
            },
        }
    },
    "CampaignWritten": {"voice": {"status": "success", "message": "", "data": _STORED_VOICE}},
    "CampaignTriggered": {
        "started": {
            "status": "Active",
            "message": "Campaign Started",
            "totalCallsCompleted": 0,
            "updatedAt": _CHANGED,
            "campaignInstanceId": _RUN_ID,
        },
        "stopped": {"status": "Stopped", "message": "Campaign Stopped", "updatedAt": _CHANGED},
    },
    "CampaignScheduled": {"done": {"status": "success", "message": "", "id": EXAMPLE_ID}},
    "CallBacksAnswer": {
        "failed": {
            "status": "success",
            "data": [{"campaignDialingListId": _RUN_ID, "status": "failed", "reason": "time_in_past"}],
        }
    },
    "CampaignChange": {
        "voice": {"campaignType": "voice", **_VOICE, "experienceFlowName": "Visit survey"},
        "sms": {"campaignType": "sms", **_SMS},
    },
    "Schedule": {
        "weekly": {
            "startDateTime": "2027-02-01 09:00:00",
            "endDateTime": "2027-03-01 18:00:00",
            "recurrenceObject": {
                "recurType": "Weekly",
                "weeklyDetails": {"onceEveryNweeks": 1, "whichDays": ["Mon", "Thu"]},
            },
        }
    },
    "CallBacks": {"one": [{"campaignDialingListId": _RUN_ID, "timeToContact": "2027-02-01 09:00:00"}]},
    "ChangesAnswer": {
        "one": {
            "changes": [
                {
                    "specversion": "1.0",
                    "id": _CURSOR,
                    "source": "/v1/streams/support",
                    "type": "campaign.status-changed",
                    "subject": EXAMPLE_ID,
                    "time": "2026-02-03T14:06:51.377Z",
                    "datacontenttype": "application/json",
                    "data": {
                        "name": "Museum visit survey",
                        "status": "Active",
                        "previousStatus": "Ready",
                        "channel": "voice",
                        "updatedAt": _CHANGED,
                        "seenBy": "list",
                    },
                }
            ],
            "next": _CURSOR,
        }
    },
    "ChangeEvents": {"quiet": f"retry: 1000\nid: {_CURSOR}\n\n:\nid: {_CURSOR}\n\n"},
    "ContactListAnswer": {"list": {"status": "success", "message": "", "data": _LIST}},
    "ContactListsAnswer": {"lists": {"status": "success", "message": "", "data": [_LIST]}},
    "ContactListWritten": {"list": {"status": "success", "message": "", "data": _LIST}},
    "ContactListUpdated": {
        "list": {"status": "success", "data": {"contactListId": _LIST_ID, "body": {"name": "Museum visitors"}}}
    },
    "ContactsAnswer": {
        "page": {
            "status": "success",
            "message": "",
            "data": {"results": [{"_id": "cc-8d2f6a19", "phoneNumber": "12025550161", **_TIMES}], **_PAGE},
        }
    },
    "ContactsAdded": {"queued": {"message": "Adding contacts to public list is in progress"}},
    "ContactListChange": {
        "list": {"name": "Museum visitors", "description": "Visitors of the past week.", "source": "passiveApi"}
    },
    "Contacts": {"one": {"contact_list_name": "Museum visitors", "data": [{"phoneNumber": "12025550161"}]}},
    "Purge": {"campaigns": {"campaigns": [EXAMPLE_ID]}, "all": {"all": True}},
    "Purged": {"campaigns": {"purged": [EXAMPLE_ID]}, "all": {"purged": "all"}},
    "Changed": {"campaigns": {"campaigns": [EXAMPLE_ID]}},
    "ProblemGuide": {"not-cached": problem_document(Problem.NOT_CACHED)},
    "ProblemGuides": {"all": {"problems": [problem_document(problem) for problem in Problem]}},
    "Accepted": {"campaigns": {"accepted": [EXAMPLE_ID]}},
}
"""An answer's first example is the usual one."""
