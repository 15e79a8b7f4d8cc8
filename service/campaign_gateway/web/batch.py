"""Several campaigns in one answer."""

from collections.abc import Sequence

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from campaign_gateway.contract.operations import Subject
from campaign_gateway.policy.codings import GZIP
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.reply import Outcome, Reply
from campaign_gateway.web.packed import is_packed_for, pack
from campaign_gateway.web.responses import absent, cache_status, finish, problem_document

_encode = msgspec.json.Encoder().encode
OK = 200
MOST_BYTES = 16 * 2**20
"""Of campaigns in one answer; nobody asks for so much, but a hundred of the largest ones would be 400 MiB."""
_TOO_MUCH = Failure(
    Problem.TOO_LARGE,
    f"the answer to all ids would be larger than {MOST_BYTES // 2**20} MiB: ask for this one by itself",
)


def render_batch(
    ids: Sequence[str], replies: Sequence[Reply], request_id: str, request_headers: CIMultiDictProxy[str]
) -> web.Response:
    """The answer for these ids, in their order: of each its campaign or its problem; packed for who can unpack it."""
    rows, size = [], 0
    for id_, reply in zip(ids, replies, strict=True):
        size += 0 if reply.entry is None else len(reply.entry.body)
        rows.append(_row(id_, reply if size <= MOST_BYTES else Reply(Outcome(), failure=_TOO_MUCH), request_id))
    headers = {
        "Cache-Status": cache_status(_summary(replies)),
        "Cache-Control": "no-store",
        "Content-Type": "application/json",
        "Vary": hdrs.ACCEPT_ENCODING,
    }
    body = _encode({"results": rows})
    if is_packed_for(request_headers, len(body)):
        body, headers["Content-Encoding"] = pack(body), GZIP
    return finish(web.Response(body=body, headers=headers), request_id)


def _row(id_: str, reply: Reply, request_id: str) -> dict[str, object]:
    entry = reply.entry
    if entry is None or entry.absence is not None:
        no_answer = reply.failure or Failure(Problem.INTERNAL, "there is no answer")
        failure = no_answer if entry is None else absent(entry, Subject.CAMPAIGN)
        return {"id": id_, "status": failure.problem.status, "problem": problem_document(failure, request_id)}
    return {
        "id": id_,
        "status": OK,
        "etag": entry.etag,
        "age": int(reply.age),
        "campaign": msgspec.Raw(entry.data),
    }


def _summary(replies: Sequence[Reply]) -> Outcome:
    """What the whole cost: a hit if every part was one, else how the first part went that was none."""
    first = next(
        (reply.outcome for reply in replies if reply.outcome.fwd is not None or reply.outcome.ttl is None), None
    )
    if first is not None:
        return Outcome(first.fwd, first.fwd_status, collapsed=first.collapsed, detail=first.detail)
    return Outcome(ttl=min(reply.outcome.ttl or 0.0 for reply in replies))
