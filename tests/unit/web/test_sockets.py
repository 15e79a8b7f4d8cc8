import errno
import socket
from contextlib import ExitStack

import pytest

from campaign_gateway.web import sockets
from campaign_gateway.web.sockets import bind, bind_all, named

V4, V6 = "127.0.0.1", "::1"


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


def answers(stack: ExitStack, host: str, port: int) -> bool:
    try:
        stack.enter_context(socket.create_connection((host, port), 5))
    except ConnectionRefusedError:
        return False
    return True


def listen(stack: ExitStack, bound: list[socket.socket]) -> int:
    for made in bound:
        stack.enter_context(made)
        made.listen()
    return int(bound[0].getsockname()[1])


@pytest.mark.drill(
    "callers by IPv6, by IPv4, by both",
    planted="`[::]`, a list, a name with two addresses, no IPv6; several workers",
    seen="each is answered",
)
@pytest.mark.parametrize(
    ("host", "answering"), [("::", [V4, V6]), ("0.0.0.0", [V4]), (V4, [V4]), (V6, [V6])], ids=["::", "0", "v4", "v6"]
)
def test_an_address_is_served_for_the_families_that_it_stands_for(stack, host, answering):
    port = listen(stack, bind(host, 0))
    assert [name for name in (V4, V6) if answers(stack, name, port)] == answering


@pytest.mark.drill("callers by IPv6, by IPv4, by both")
def test_every_address_of_a_name_has_the_same_port(stack, monkeypatch):
    found = [(socket.AF_INET, 1, 6, "", (V4, 0)), (socket.AF_INET6, 1, 6, "", (V6, 0, 0, 0))]
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        port = listen(stack, bind("localhost", 0))
    assert answers(stack, V4, port)
    assert answers(stack, V6, port)


@pytest.mark.drill("callers by IPv6, by IPv4, by both")
def test_both_families_may_be_written_out_for_one_port(stack):
    port = listen(stack, bind(V4, 0))
    stack.close()
    for bound in bind_all([("::", port), (V4, port)]):
        listen(stack, bound)
    assert answers(stack, V4, port)
    assert answers(stack, V6, port)


@pytest.mark.drill("callers by IPv6, by IPv4, by both")
def test_without_ipv6_every_address_is_one_of_ipv4(stack, monkeypatch):
    monkeypatch.setattr(sockets, "_has_ipv6", lambda: False)
    assert answers(stack, V4, listen(stack, bind("::", 0)))


def test_an_address_that_is_taken_is_named_and_nothing_is_held(stack):
    port = listen(stack, bind(V4, 0))
    with pytest.raises(OSError, match=rf"cannot listen on {V4}, port {port}: address already in use"):
        bind_all([(V4, 0), (V4, port)])


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EADDRINUSE, "listen: no: stop what listens there, or write another port"),
        (errno.EACCES, "listen: no: write a port above 1023, or give the process CAP_NET_BIND_SERVICE"),
        (errno.EADDRNOTAVAIL, "listen: no: write an address of this machine"),
        (errno.ENOBUFS, "listen: no: write another address"),
    ],
)
def test_an_address_that_cannot_be_bound_is_told_with_its_key_and_what_to_do(number: int, said: str) -> None:
    with pytest.raises(OSError, match=said) as refused, named("listen"):
        raise OSError(number, "no")
    assert refused.value.errno == number


@pytest.mark.parametrize("host", [V4, V6])
def test_the_kernel_looks_whether_callers_are_still_there(stack, host):
    listening = bind(host, 0)
    port = listen(stack, listening)
    stack.enter_context(socket.create_connection((host, port), 5))
    accepted = stack.enter_context(listening[0].accept()[0])
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
