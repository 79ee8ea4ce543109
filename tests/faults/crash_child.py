"""Dies by SIGKILL at chosen points of a drain, again and again. `python -m tests.faults.crash_child DATABASE_URL`.

One line a death on standard input: `DOMAIN POINT`; POINT counts what happens to the database: each begin, each
statement once it has run, each commit before it is made, and the end. A line of its answer says where it died.
POINT -1 lives, and answers with all the points that it passed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from sqlalchemy import Engine, event

from models.session import make_engine
from tasks.steps.drain import drain

LIVES = -1


class Passage:
    """Counts the points passed; at the one that was chosen it says which it is, and dies."""

    def __init__(self, chosen: int, answer: int) -> None:
        self.passed: list[str] = []
        self._chosen, self._answer = chosen, answer

    def point(self, label: str) -> None:
        if len(self.passed) == self._chosen:
            self.say(label)
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed.append(label)

    def say(self, what: object) -> None:
        os.write(self._answer, json.dumps(what).encode() + b"\n")

    def watch(self, engine: Engine) -> None:
        event.listen(engine, "begin", lambda connection: self.point("begin"))
        event.listen(engine, "commit", lambda connection: self.point("before the commit"))
        event.listen(engine, "after_cursor_execute", self._after_statement)

    def _after_statement(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.point(" ".join(statement.split())[:60])


def live_or_die(url: str, domain: str, chosen: int, answer: int) -> None:
    """In a process of its own: the drain of a shop, up to its chosen end."""
    engine = make_engine(url)
    passage = Passage(chosen, answer)
    passage.watch(engine)
    drain(engine, domain)
    passage.point("after the commit")
    passage.say(passage.passed)


def main() -> None:
    url = sys.argv[1]
    for line in sys.stdin:
        domain, chosen = line.split()
        pid = os.fork()
        if pid == 0:
            live_or_die(url, domain, int(chosen), sys.stdout.fileno())
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) == (int(chosen) != LIVES), f"point {chosen} of {domain} was not reached"


if __name__ == "__main__":
    main()
