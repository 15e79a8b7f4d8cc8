"""How an answer gets onto the wire: whole as a rule, and in the ways that faults ask for."""

import socket
import struct
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from campaign_gateway.sandbox.answers import Answer
from campaign_gateway.sandbox.faults import Fault, FaultName, Met

# Linger for no time: the kernel discards what is unsent and answers with a reset.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def deliver(
    request: web.BaseRequest, answer: Answer, met: Met, *, headers: Mapping[str, str]
) -> web.StreamResponse:
    """The response, sent already where a fault asks for a special way of sending.

    Args:
        request: The request it answers.
        answer: What to send.
        met: The faults that the request met; the oldest one that is about sending decides.
        headers: Headers of every answer, such as `Date`.
    """
    fields = {**headers, **answer.headers}
    if answer.content_type:
        fields["Content-Type"] = answer.content_type
    way = met.first(*_WAYS)
    try:
        if way is not None:
            return await _WAYS[way.name](request, answer, fields, way)
    except ConnectionError:
        # The client did not wait, which is what these faults are for.
        return web.Response()
    if answer.body and not answer.content_type:
        return _raw(request, answer, {**fields, "Content-Length": str(len(answer.body))}, answer.body)
    return web.Response(status=answer.status, body=answer.body, headers=fields)


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """Resets the connection; the response is for the server alone and never sent."""
    if request.transport is not None:
        held: socket.socket = request.transport.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        request.transport.abort()
    return web.Response()


async def _cut_body(
    request: web.BaseRequest, answer: Answer, headers: Mapping[str, str], _: Fault
) -> web.StreamResponse:
    response = await _begun(request, answer, headers)
    await response.write(_half(answer))
    _close(request)
    return response


async def _cut_unframed(
    request: web.BaseRequest, answer: Answer, headers: Mapping[str, str], _: Fault
) -> web.StreamResponse:
    return _raw(request, answer, headers, _half(answer))


async def _slow_body(
    request: web.BaseRequest, answer: Answer, headers: Mapping[str, str], fault: Fault
) -> web.StreamResponse:
    response = await _begun(request, answer, headers)
    piece = max(1, fault.parameters.size_bytes)
    for start in range(0, len(answer.body), piece):
        await response.write(answer.body[start : start + piece])
        await fault.pause(fault.parameters.seconds)
    return response


async def _close_idle(
    request: web.BaseRequest, answer: Answer, headers: Mapping[str, str], fault: Fault
) -> web.StreamResponse:
    response = await _begun(request, answer, headers)
    await response.write(answer.body)
    await response.write_eof()
    await fault.pause(fault.parameters.seconds)
    _close(request)
    return response


_WAYS: Mapping[
    FaultName,
    Callable[[web.BaseRequest, Answer, Mapping[str, str], Fault], Awaitable[web.StreamResponse]],
] = {
    FaultName.CUT_BODY: _cut_body,
    FaultName.CUT_UNFRAMED: _cut_unframed,
    FaultName.SLOW_BODY: _slow_body,
    FaultName.CLOSE_IDLE: _close_idle,
}


async def _begun(request: web.BaseRequest, answer: Answer, headers: Mapping[str, str]) -> web.StreamResponse:
    """A response whose head is sent and promises the whole body."""
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    return response


def _raw(request: web.BaseRequest, answer: Answer, headers: Mapping[str, str], body: bytes) -> web.StreamResponse:
    """Bytes written past the server, which insists on framing and on a content type; then a close."""
    lines = [f"HTTP/1.1 {answer.status} Raw", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1", "replace")
    if request.transport is not None:
        request.transport.write(head + body)
    _close(request)
    return web.Response()


def _half(answer: Answer) -> bytes:
    return answer.body[: len(answer.body) // 2]


def _close(request: web.BaseRequest) -> None:
    """Closes the connection once what is written has been sent."""
    if request.transport is not None:
        request.transport.close()
