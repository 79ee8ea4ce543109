"""A pooler of transactions, as PgBouncer is one: the server connection changes with each transaction, always.

So nothing that belongs to a session survives: a prepared statement, a setting, a lock of the session. Like PgBouncer it
refuses `options` at the start of a connection.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import URL, make_url

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
VERSION_3 = 196608
SERVERS = 4
ENDED = (asyncio.IncompleteReadError, ConnectionError, OSError)
TOLD = {"server_version": "15.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
TOLD |= {"DateStyle": "ISO, MDY", "TimeZone": "UTC", "integer_datetimes": "on"}


def frame(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


async def read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


@dataclass
class Server:
    """A connection to PostgreSQL. pending: how often its client still has to hear that it is ready."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pending: int = 0


class Pooler:
    """Listens on `port`; every transaction takes the connection that was idle for longest."""

    def __init__(self, to: URL) -> None:
        self.to = to
        self.port = 0
        self.transactions = 0
        self._idle: asyncio.Queue[Server] = asyncio.Queue()
        self._open: set[asyncio.StreamWriter] = set()

    async def run(self, started: threading.Event, ending: asyncio.Event) -> None:
        for _ in range(SERVERS):
            self._idle.put_nowait(await self.connected())
        listening = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = listening.sockets[0].getsockname()[1]
        started.set()
        await ending.wait()
        listening.close()
        for writer in self._open:
            writer.close()
        for writer in list(self._open):
            with suppress(*ENDED):
                await writer.wait_closed()

    async def connected(self) -> Server:
        place = self.to.query.get("host")
        server = Server(
            *(
                await asyncio.open_unix_connection(f"{place}/.s.PGSQL.{self.to.port or 5432}")
                if place
                else await asyncio.open_connection(self.to.host, self.to.port or 5432)
            )
        )
        names = {"user": self.to.username or "postgres", "database": self.to.database or ""}
        said = b"".join(part.encode() + b"\0" for pair in names.items() for part in pair) + b"\0"
        server.writer.write(frame(b"", struct.pack("!i", VERSION_3) + said))
        self._open.add(server.writer)
        while (await read_frame(server.reader))[0] != b"Z":
            pass
        return server

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(*ENDED):
            if await greeted(reader, writer):
                await self.work(reader, writer)
        writer.close()

    async def work(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: Server | None = None
        answering: asyncio.Task[None] | None = None
        try:
            while True:
                kind, body = await read_frame(reader)
                if kind == b"X":
                    return
                if server is None or answering is None or answering.done():
                    server = await self._idle.get()
                    self.transactions += 1
                    answering = asyncio.create_task(self.answer(server, writer))
                server.pending += kind in b"QS"
                server.writer.write(frame(kind, body))
        finally:
            if server is not None and answering is not None and not answering.done():
                answering.cancel()  # in the middle of a transaction: the connection is of no more use
                server.writer.close()
                self._idle.put_nowait(await self.connected())

    async def answer(self, server: Server, writer: asyncio.StreamWriter) -> None:
        """Until the transaction has ended, and nothing more was asked."""
        while True:
            kind, body = await read_frame(server.reader)
            writer.write(frame(kind, body))
            if kind == b"Z":
                server.pending -= 1
                if body == b"I" and not server.pending:
                    self._idle.put_nowait(server)
                    return


async def greeted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """The start of a connection; False when it asked for what a pooler cannot give."""
    while True:
        length = struct.unpack("!i", await reader.readexactly(4))[0]
        body = await reader.readexactly(length - 4)
        if struct.unpack("!i", body[:4])[0] not in (SSL_REQUEST, GSS_REQUEST):
            break
        writer.write(b"N")
    if b"options\0" in body:
        refusal = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
        writer.write(frame(b"E", refusal))
        await writer.drain()
        return False
    writer.write(frame(b"R", struct.pack("!i", 0)))
    for name, value in TOLD.items():
        writer.write(frame(b"S", f"{name}\0{value}\0".encode()))
    writer.write(frame(b"K", struct.pack("!ii", 1, 1)) + frame(b"Z", b"I"))
    return True


@contextmanager
def pooled(url: str) -> Iterator[Pooler]:
    """A pooler before this database, in a thread of its own."""
    pooler = Pooler(make_url(url))
    started, loop = threading.Event(), asyncio.new_event_loop()
    ending = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(pooler.run(started, ending)))
    thread.start()
    assert started.wait(10)
    try:
        yield pooler
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
        loop.close()
