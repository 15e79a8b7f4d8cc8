"""Callers of a soak: what each asks for, on connections that stay, and what it got, down to lost connections."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import parse_headers
from io import BytesIO
from random import Random
from typing import Any

PATIENCE_SECONDS = 25.0


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the wire."""

    status: int
    fields: Mapping[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        """The name of its problem; empty if it is none."""
        if self.fields.get("Content-Type") != "application/problem+json":
            return ""
        document: dict[str, Any] = json.loads(self.body)
        return str(document["type"]).removeprefix("/problems/")


class Caller:
    """One connection, opened anew after each end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, raw: bytes) -> Reply:
        """The answer to these bytes.

        Raises:
            OSError, EOFError: the connection was lost, or none can be made.
            TimeoutError: nothing came in time.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**22)
                reader, writer = self._streams
                writer.write(raw)
                line, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
                fields = parse_headers(BytesIO(rest))
                body = await reader.readexactly(int(fields.get("Content-Length", 0)))
        except BaseException:
            self.hang_up()
            raise
        if fields.get("Connection") == "close" or line.startswith(b"HTTP/1.0"):
            self.hang_up()
        return Reply(int(line.split(b" ")[1]), dict(fields.items()), body)

    def hang_up(self) -> None:
        """The next request goes out on another connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


@dataclass(frozen=True)
class Wish:
    """One request. `campaign` is set where the answer has to be that campaign's whole document."""

    line: str
    key: str
    campaign: str = ""
    body: bytes = b""
    more: str = ""

    @property
    def raw(self) -> bytes:
        """As it is sent."""
        length = f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n" if self.body else ""
        head = f"{self.line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key}\r\n{self.more}{length}\r\n"
        return head.encode("latin-1") + self.body


def draw(random: Random, ids: list[str], keys: Mapping[str, str]) -> Wish:
    """A request of a mixed load: mostly reads by id, some of everything else, some that are refused."""
    campaign, key = random.choice(ids), random.choice([keys["reader"], keys["other"], keys["writer"]])
    read = f"GET /v1/campaigns/{campaign}"
    mixed = (
        (75.0, Wish(read, key, campaign)),
        (5.0, Wish(read, key, campaign, more="Cache-Control: no-cache\r\n")),
        (5.0, Wish(f"GET /v1/campaigns/cd-unknown-{random.randrange(10**6)}", key)),
        (3.0, Wish("GET /v1/campaigns?ids=" + ",".join(ids), key)),
        (3.0, Wish(f"{read}?fields=name,updatedAt", key)),
        (2.0, Wish(f"{read}/status", key)),
        (1.0, Wish("GET /v1/campaigns?type=voice", key)),
        (1.0, Wish(f"PUT /v1/campaigns/{campaign}?type=voice", keys["writer"], body=b'{"name": "too little"}')),
        (0.5, Wish("POST /v1/purge", keys["writer"], body=b'{"all": true}')),
        (2.0, Wish(read, "cgk_nobody")),
        (2.5, Wish(read, key, more="X-Odd: \x01\r\n")),
    )
    weights, wishes = zip(*mixed, strict=True)
    wish: Wish = random.choices(wishes, weights)[0]
    return wish
