"""Exits 0 if the gateway in this container answers, 1 and a line saying why if it does not.

It runs every few seconds beside a gateway that has better uses for the processor: hence a bare socket, which imports in
a fraction of what `urllib` takes, and nothing from outside the standard library.

    healthcheck.py                 what GATEWAY__ADMIN_LISTEN names, /livez
    healthcheck.py host:port path  something else
"""

import os
import socket
import sys

TIMEOUT_SECONDS = 2.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked for on loopback, not listened on


def main(address: str = "", path: str = "/livez") -> str | None:
    """What is wrong; None if nothing is."""
    address = address or os.environ.get("GATEWAY__ADMIN_LISTEN", "127.0.0.1:9090")
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    question = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection((ANY_ADDRESS.get(host, host), int(port)), TIMEOUT_SECONDS) as connection:
            connection.sendall(question)
            status_line = connection.makefile("rb").readline(200)
    except (OSError, ValueError) as error:
        return f"{address}: {error}"
    if status_line.split(b" ")[1:2] != [b"200"]:
        return f"{address}{path}: {status_line!r}"
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
