"""The schemas of the description: what the platform documents of its objects, and what is the gateway's own.

Written so that generators of clients can use them: every object and every branch of a choice has a name, every array
says what it holds, and nothing is narrowed where it is used. Of the platform's own objects nothing is required that
`fields` can leave out, and no enumeration is closed that the platform may extend.
"""

from collections.abc import Mapping

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.changes import ChangeType, SeenBy
from campaign_gateway.problems import Problem
from campaign_gateway.web.actions import MAX_NAMED
from campaign_gateway.web.docs.components import ID, TEXT, Json

_FLAG: Json = {"type": "boolean"}
_NUMBER: Json = {"type": "integer"}
_MOMENT: Json = {"type": "string", "description": "An instant in ISO 8601, with milliseconds and `Z`."}
_PRIORITY: Json = {"type": ["string", "integer"], "description": "`1` to `5`: higher runs first."}
_CHANNEL: Json = {"type": "string", "enum": [channel.value for channel in Channel]}
_MESSAGE: Json = {"type": "string", "description": "The platform's text for people."}
_OUTCOME: Json = {"type": "string", "description": "`success`, as the platform writes it."}
_COUNT: Json = {"type": ["integer", "string"], "description": "A number; the platform may send an empty text."}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _array(of: Json, **more: object) -> Json:
    return {"type": "array", "items": of, **more}


def _text(description: str) -> Json:
    return {"type": "string", "description": description}


def _object(description: str, required: tuple[str, ...] = (), /, **members: Json) -> Json:
    needed = {"required": list(required)} if required else {}
    return {"description": description, "type": "object", **needed, "properties": members}


def _answer(description: str, data: Json, **more: Json) -> Json:
    return _object(description, ("data",), status=_OUTCOME, message=_MESSAGE, data=data, **more)


_PAGE: Json = {"skip": _COUNT, "limit": _COUNT, "hasMore": _FLAG, "totalPages": _NUMBER, "totalResults": _NUMBER}

_CAMPAIGNS: Mapping[str, Json] = {
    "CampaignAnswer": _answer("One campaign: the platform's answer, or the selected `fields`.", _ref("Campaign")),
    "CampaignsAnswer": {
        "description": "A page of the list for `type`, or one result for each of the `ids`.",
        "anyOf": [_ref("CampaignPage"), _ref("CampaignBatch")],
    },
    "CampaignPage": _answer("The platform's list, or the selected `fields` of its rows.", _ref("CampaignRows")),
    "CampaignRows": _object(
        "A page of campaigns. Rows have fewer members than an answer by id.",
        results=_array(_ref("Campaign")),
        page=_COUNT,
        **_PAGE,
    ),
    "CampaignBatch": _object(
        "Several campaigns, in the order requested.", ("results",), results=_array(_ref("CampaignResult"))
    ),
    "CampaignResult": _object(
        "A campaign, or why it is missing.",
        ("id", "status"),
        id=ID,
        status={**_NUMBER, "description": "200, or the status of the problem."},
        etag=TEXT,
        age={**_NUMBER, "description": "Seconds since the last validation began."},
        campaign=_ref("Campaign"),
        problem=_ref("Problem"),
    ),
    "Campaign": _object(
        "A campaign as the platform returns it; it may have more members. `dialingMode` tells a voice campaign, "
        "`format` an SMS campaign.",
        _id=_text("The campaign's id; some answers call it `id`."),
        id=_text("The campaign's id, where it is not in `_id`."),
        name=TEXT,
        lname=_text("The name in lower case; not in lists."),
        description=TEXT,
        status=_text(
            "`Preparing`, `Ready`, `Scheduled`, `Rescheduled`, `Active`, `Paused`, `Stopped` or `Completed`; there may "
            "be others."
        ),
        dncLists=_ref("NamedList"),
        priority=_PRIORITY,
        dialingMode=_text("Voice: `Agentless`, `Progressive` or `Preview`; there may be others."),
        dialingStrategy=_ref("DialingStrategy"),
        experienceFlow=_text("The id of the flow; agentless voice and advanced SMS."),
        connection=_text("The name of the queue or flow; in lists of voice campaigns."),
        message=_ref("CampaignMessage"),
        format=_text("SMS: `simple` or `advanced`; there may be others."),
        maxSkips={**_NUMBER, "description": "Preview: how many contacts an agent may skip."},
        enableMachineDetect={"type": ["boolean", "string"], "description": "Voice: machine detection."},
        isFiltersEnabled=_FLAG,
        isImported=_FLAG,
        schedule=_ref("CampaignSchedule"),
        contactLists=_array(TEXT, description="Names of contact lists."),
        campaignInstanceId=_text("The latest run; after one."),
        campaignInstanceUpdatedAt=_MOMENT,
        campaignExecutionType=_text("SMS, in lists: `NORMAL`; there may be others."),
        totalMessagesSent={**_NUMBER, "description": "SMS, in lists."},
        createdAt=_MOMENT,
        updatedAt=_MOMENT,
    ),
    "NamedList": _object("A contact list by name.", id=TEXT, name=TEXT),
    "DialingStrategy": _object(
        "How contacts are called. SMS has `callerId` and `callingHours` only.",
        callerId=_ref("CallerId"),
        callingHours=_ref("CallingHours"),
        dialingOrder=_text("`FIFO` or `LIFO`."),
        maxAttemptsPerRecord={**_NUMBER, "description": "1 to 100."},
        defaultRetryPeriod={**_NUMBER, "description": "Minutes, 1 to 1440."},
        maxRingTime={**_NUMBER, "description": "Seconds, 5 to 120."},
        useSystemMappings=_FLAG,
    ),
    "CallerId": _object("Who calls.", phoneNumber=_text("`+` and digits.")),
    "CallingHours": _object(
        "When contacts may be called.",
        frequency=_text("`WEEKLY`, `DAILY` or `CUSTOM`."),
        timezone=_text("As in the IANA database."),
        days=_array(_ref("CallingDay")),
    ),
    "CallingDay": _object(
        "One day's hours.",
        day=_text("`MO` to `SU`."),
        start=_text("Such as `9:00 AM`."),
        end=_text("Such as `6:00 PM`."),
    ),
    "CampaignMessage": _object(
        "The text of an SMS campaign.",
        message=_text("Base64 and then percent-encoded, or plain; the platform's pages say when."),
        template_name=TEXT,
        templateId=TEXT,
    ),
    "CampaignSchedule": _object("Whether it is scheduled.", isSchedulingEnabled=_FLAG, isRecurrenceEnabled=_FLAG),
    "CampaignStatusAnswer": _answer("The platform's status answer.", _ref("CampaignStatus")),
    "CampaignStatus": _object("A campaign's status.", id=TEXT, status=TEXT, name=TEXT),
    "OutcomesAnswer": _answer("The outcomes of a campaign's contacts.", _ref("OutcomeRows")),
    "OutcomeRows": _object("A page of outcomes.", results=_array(_ref("Outcome")), page=_COUNT, **_PAGE),
    "Outcome": _object(
        "What came of one contact.",
        phoneNumber=TEXT,
        uniqueId=TEXT,
        dialerOutcome=TEXT,
        numberOfAttemptsSoFar=_NUMBER,
        botSessionId=TEXT,
        agentDispositionCodes=_array(TEXT),
        botOutboundStatus=TEXT,
        botOutboundStatusDetail=TEXT,
    ),
    "CampaignWritten": _object(
        "The platform's answer to a write. `data` is the campaign after it.",
        status=_OUTCOME,
        message=_MESSAGE,
        id=_text("The campaign's id; in some answers."),
        data=_ref("Campaign"),
    ),
    "CampaignTriggered": _object(
        "The platform's answer to a start or a stop.",
        status=_text("The campaign's status, such as `Active` or `Stopped`."),
        message=_MESSAGE,
        totalCallsCompleted=_NUMBER,
        updatedAt=_MOMENT,
        campaignInstanceId=TEXT,
        campaignExecutionType=TEXT,
    ),
    "CampaignScheduled": _object("The platform's answer.", status=_OUTCOME, message=_MESSAGE, id=TEXT),
    "CallBacksAnswer": _object("One result for each contact.", status=_OUTCOME, data=_array(_ref("CallBackResult"))),
    "CallBackResult": _object("A contact.", campaignDialingListId=TEXT, status=TEXT, reason=TEXT),
    "CampaignChange": _object(
        "A campaign as the platform accepts it: complete, also for an update. The platform validates it.",
        ("name", "description", "contactLists", "priority"),
        name={**TEXT, "maxLength": 48},
        description={**TEXT, "maxLength": 256},
        campaignType=_CHANNEL,
        contactLists=_array(TEXT, description="Names of contact lists; at least one."),
        dncLists=_ref("NamedList"),
        priority=_PRIORITY,
        dialingMode=_text("Voice: `Agentless`, `Progressive` or `Preview`."),
        dialingStrategy=_ref("DialingStrategy"),
        schedule=_ref("CampaignSchedule"),
        experienceFlowName=_text("The name of the flow; agentless voice and advanced SMS."),
        queue_name=_text("The name of the queue; progressive and preview."),
        maxSkips={**_NUMBER, "description": "Preview."},
        enableMachineDetect=_text("Agentless: `no`, `detect` or `disconnect`."),
        format=_text("SMS: `simple` or `advanced`."),
        message=_ref("CampaignMessage"),
    ),
    "Schedule": _object(
        "When the campaign runs.",
        ("startDateTime", "endDateTime"),
        startDateTime=_text("Later than now: `YYYY-MM-DD HH:mm:ss`."),
        endDateTime=_text("Later than the start."),
        recurrenceObject=_ref("Recurrence"),
    ),
    "Recurrence": _object(
        "How it is repeated.",
        recurType=_text("`Daily` or `Weekly`."),
        dailyDetails=_ref("DailyRecurrence"),
        weeklyDetails=_ref("WeeklyRecurrence"),
    ),
    "DailyRecurrence": _object("Every so many days.", onceEveryNdays=_NUMBER),
    "WeeklyRecurrence": _object(
        "Every so many weeks.", onceEveryNweeks=_NUMBER, whichDays=_array(TEXT, description="`Mon` to `Sun`.")
    ),
    "CallBacks": {"description": "The contacts to call, and when.", **_array(_ref("CallBack"))},
    "CallBack": _object(
        "A contact.", ("campaignDialingListId", "timeToContact"), campaignDialingListId=TEXT, timeToContact=TEXT
    ),
}

_CONTACT_LISTS: Mapping[str, Json] = {
    "ContactListAnswer": _answer("The platform's answer, or the selected `fields`.", _ref("ContactList")),
    "ContactListsAnswer": _answer("All contact lists; their entries have fewer members.", _array(_ref("ContactList"))),
    "ContactList": _object(
        "A contact list as the platform returns it; it may have more members.",
        _id=TEXT,
        name=TEXT,
        description=TEXT,
        isActive=_FLAG,
        totalRecordCount=_NUMBER,
        status=_text("`Ready` or `Validated`; there may be others."),
        mapping=_ref("ContactMapping"),
        isListInUse=_FLAG,
        listType=TEXT,
        campaignInUse=_array(_ref("NamedCampaign")),
        source=_text("`passiveApi`, `passiveApiIntegration`, `localDrive` or `upload`; there may be others."),
        columns=_array(TEXT),
        files=_array(_ref("ContactFile")),
        isGlobalDNC=_FLAG,
        isDefault=_FLAG,
        allowDuplicates=_FLAG,
        createdBy=TEXT,
        updatedBy=TEXT,
        createdAt=_MOMENT,
        updatedAt=_MOMENT,
    ),
    "ContactMapping": _object(
        "Which column holds what.",
        firstName=TEXT,
        lastName=TEXT,
        phoneNumber=TEXT,
        timeZone=TEXT,
        uniqueId=TEXT,
        contactPriority=TEXT,
    ),
    "NamedCampaign": _object("A campaign by name.", id=TEXT, name=TEXT),
    "ContactFile": _object("An uploaded file.", fileId=TEXT, fileName=TEXT),
    "ContactsAnswer": _answer("The contacts of a list.", _ref("ContactRows")),
    "ContactRows": _object("A page of contacts.", results=_array(_ref("StoredContact")), **_PAGE),
    "StoredContact": _object("A contact.", _id=TEXT, phoneNumber=TEXT, createdAt=_MOMENT, updatedAt=_MOMENT),
    "ContactListWritten": _object(
        "The platform's answer.", status=_OUTCOME, message=_MESSAGE, data=_ref("ContactList")
    ),
    "ContactListUpdated": _object(
        "The platform's answer.", status=_OUTCOME, message=_MESSAGE, data=_ref("UpdatedContactList")
    ),
    "UpdatedContactList": _object("The list after the update.", contactListId=TEXT, body=_ref("ContactListBody")),
    "ContactListBody": _object(
        "What it was set to.", name=TEXT, orgId=TEXT, iId=TEXT, listType=TEXT, accountId=TEXT, updatedBy=TEXT
    ),
    "ContactsAdded": _object("The platform's answer: they are queued.", message=_MESSAGE),
    "ContactListChange": _object(
        "A contact list as the platform accepts it.",
        ("name", "description"),
        name={**TEXT, "maxLength": 48},
        description={**TEXT, "maxLength": 256},
        source=_text("`passiveApi`, to create a list."),
        allowDuplicates=_FLAG,
    ),
    "Contacts": _object(
        "Contacts for a list.",
        ("contact_list_name", "data"),
        contact_list_name=TEXT,
        data=_array(_ref("Contact")),
    ),
    "Contact": _object("A contact; the list's mapping defines more members.", phoneNumber=TEXT),
}

_GATEWAY: Mapping[str, Json] = {
    "Purge": {
        "description": "The stored answers to purge.",
        "oneOf": [_ref("PurgeCampaigns"), _ref("PurgeAll")],
    },
    "PurgeCampaigns": {
        **_object(
            "Those of the named campaigns.", ("campaigns",), campaigns=_array(ID, minItems=1, maxItems=MAX_NAMED)
        ),
        "additionalProperties": False,
    },
    "PurgeAll": {
        **_object("All answers of the stream.", ("all",), all={"type": "boolean", "const": True}),
        "additionalProperties": False,
    },
    "Purged": _object(
        "What was purged.", ("purged",), purged={"anyOf": [_ref("PurgedIds"), {"type": "string", "const": "all"}]}
    ),
    "PurgedIds": {"description": "The purged ids.", **_array(ID)},
    "Changed": {
        **_object("The changed campaigns.", ("campaigns",), campaigns=_array(ID, minItems=1, maxItems=MAX_NAMED)),
        "additionalProperties": False,
    },
    "Accepted": _object("The campaigns that are read first.", ("accepted",), accepted=_array(ID)),
    "ChangesAnswer": _object(
        "What has changed.",
        ("changes", "next"),
        changes=_array(_ref("Change")),
        next=_text("The cursor to go on from."),
    ),
    "ChangeEvents": _text("Server-sent events: the `data` of each is a `Change`, but for the event `reset`."),
    "Change": _object(
        "A change, as a CloudEvents 1.0 object.",
        ("specversion", "id", "source", "type", "time", "data"),
        specversion={"type": "string", "const": "1.0"},
        id=_text("The cursor of this change."),
        source=_text("The stream."),
        type={"type": "string", "enum": [*ChangeType]},
        subject={**ID, "description": "The campaign; absent where a change concerns the stream."},
        time=_MOMENT,
        datacontenttype=TEXT,
        data=_ref("ChangeData"),
    ),
    "ChangeData": _object(
        "What is known of it. Read the campaign for more: the answer is newer than the change.",
        name=TEXT,
        status=TEXT,
        previousStatus=TEXT,
        channel={"type": "string", "enum": [*Channel]},
        updatedAt=TEXT,
        seenBy={"type": "string", "enum": [*SeenBy]},
        reason=_text("Why a list is not trusted: its flaw, or `unread` until one that Redis has lost is known again."),
    ),
    "ProblemGuides": _object("All types of problems.", ("problems",), problems=_array(_ref("ProblemGuide"))),
    "ProblemGuide": _object(
        "What is known of a type of problems.",
        ("type", "title", "status", "cause", "cure", "contact"),
        type=TEXT,
        title=TEXT,
        status=_NUMBER,
        cause=_text("When it comes."),
        cure=_text("What a caller does about it."),
        contact=_text("Whom to ask if that does not help."),
    ),
    "Problem": {
        **_object(
            "What went wrong (RFC 9457).",
            ("type", "title", "status", "detail", "request_id"),
            type={
                "type": "string",
                "enum": [problem.type for problem in Problem],
                "description": "Names the kind of problem, and leads to a page about it.",
            },
            title=_text("One sentence, the same for every occurrence."),
            status={"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
            detail=_text("The details of this occurrence."),
            request_id=_text("The value of `X-Request-ID`."),
            upstream_status={"type": "integer", "description": "The HTTP status of the platform's answer."},
            upstream_code=_text("The platform's own code."),
            upstream_message=_text("The platform's own message."),
        ),
        "additionalProperties": False,
    },
}

SCHEMAS: Mapping[str, Json] = {**_CAMPAIGNS, **_CONTACT_LISTS, **_GATEWAY}
"""By the name that generated clients give to the type."""
