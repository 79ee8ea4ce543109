"""The load on a receiver: a program of its own, told on its input what to do. Standard library only.

Each connection sends one request after the other and waits for each answer. The requests are ready bytes in a file,
each with its length before it, so that the client takes as little of the machine as Python allows.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

LENGTH = struct.Struct(">I")
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ANSWER_SECONDS = 10.0
RECEIVED_AT_ONCE = 65536


def requests_in(path: Path) -> Iterator[bytes]:
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        yield data[at : at + length]
        at += length


def framed(request: bytes) -> bytes:
    return LENGTH.pack(len(request)) + request


def answer_to(connection: socket.socket, request: bytes) -> int:
    """Send, and read the whole answer; its status."""
    connection.sendall(request)
    answer = b""
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += received(connection)
    length = CONTENT_LENGTH.search(answer, 0, end)
    missing = end + 4 + int(length[1] if length else 0) - len(answer)
    while missing > 0:
        missing -= len(received(connection))
    return int(answer.split(b" ", 2)[1])


def received(connection: socket.socket) -> bytes:
    found = connection.recv(RECEIVED_AT_ONCE)
    if not found:
        raise ConnectionError("the server hung up")
    return found


def load(host: str, port: int, path: Path, connections: int) -> dict[str, object]:
    """Every request of the file once, over so many connections at a time."""
    waiting = list(requests_in(path))
    answers: Counter[str] = Counter()

    def work() -> None:
        with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while waiting:
                try:
                    request = waiting.pop()
                except IndexError:  # another connection took the last one
                    return
                answers[str(answer_to(connection, request))] += 1

    threads = [threading.Thread(target=work) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"answers": dict(answers), "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    told = json.load(sys.stdin)
    json.dump(load(told["host"], told["port"], Path(told["path"]), told["connections"]), sys.stdout)
