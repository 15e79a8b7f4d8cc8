"""The operators' port on the API's own server: the same limits, no version named, nothing of a bad request repeated."""

from collections.abc import Collection

from aiohttp import web
from typing_extensions import override

from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.web.heads import new_request_id
from campaign_gateway.web.responses import render_failure
from campaign_gateway.web.server import Server, fault_of
from campaign_gateway.web.sites import foreign_site
from campaign_gateway.web.unsent import UnsentWatch


class OperatorsRunner(web.AppRunner):
    """Runs the application behind `admin_listen`. No key is asked for there, so no page of another site gets in."""

    def __init__(
        self,
        application: web.Application,
        hosts: Collection[str],
        shutdown_timeout: float,
        send_timeout: float,
        max_unsent: int,
    ) -> None:
        """A runner.

        Args:
            application: answers.
            hosts: see `sites.foreign_site`.
            shutdown_timeout: seconds for answers under way at the end.
            send_timeout: see `UnsentWatch`.
            max_unsent: in bytes, see there.
        """
        super().__init__(application, access_log=None, shutdown_timeout=shutdown_timeout)
        self._hosts = hosts
        self._send_timeout, self._max_unsent = send_timeout, max_unsent
        self._tasks = Tasks()

    @override
    async def _make_server(self) -> Server:
        made = await super()._make_server()
        answer = made.request_handler

        async def handle(http: web.BaseRequest) -> web.StreamResponse:
            if (fault := fault_of(http)) is not None:
                response = _refuse(Failure(Problem.INVALID_REQUEST, fault))
                response.force_close()
                return response
            if (foreign := foreign_site(http.headers, self._hosts)) is not None:
                return _refuse(Failure(Problem.FORBIDDEN, foreign))
            return await answer(http)

        server = Server(handle, _refuse)
        server.request_factory = made.request_factory
        unsent = UnsentWatch(server.transports, self._send_timeout, self._max_unsent, lambda: None)
        self._tasks.supervise(unsent.watch, name="end unread answers to operators")
        return server

    @override
    async def cleanup(self) -> None:
        await super().cleanup()
        await self._tasks.close()


def _refuse(failure: Failure) -> web.Response:
    return render_failure(failure, new_request_id())
