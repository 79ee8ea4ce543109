"""After the storm: is every acknowledged event there and done, nothing twice, and do the books say what the oracle says?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, text

from tasks.steps.replay import replay
from tasks.steps.verify import verify
from tests.books import expected, state_of
from tests.faults.stories import Sending, Tale

Key = tuple[str, str]


@dataclass
class Findings:
    """What was found wrong, in words; all empty when all is well."""

    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    mismatch: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.double or self.mismatch)

    def __str__(self) -> str:
        return f"lost={len(self.lost)} double={len(self.double)} mismatch={len(self.mismatch)}"

    def some(self) -> list[str]:
        """The first few of each kind."""
        return [*self.lost[:5], *self.double[:5], *self.mismatch[:5]]


def check(
    engine: Engine, tales: Sequence[Tale], sendings: Sequence[Sending], acked: Collection[Key]
) -> Findings:
    findings = Findings()
    inbox_is_whole(engine, sendings, acked, findings)
    for tale in tales:
        refunds_are_there_once(tale, findings)
        books_are_right(tale, findings)
    return findings


def inbox_is_whole(
    engine: Engine, sendings: Sequence[Sending], acked: Collection[Key], findings: Findings
) -> None:
    """Each acknowledged delivery has its row, one row, and it is done; and there is no row that nobody sent."""
    with engine.connect() as connection:
        rows = connection.execute(text("select shop_domain, webhook_id, state, error from inbox")).all()
    kept = Counter((row.shop_domain, row.webhook_id) for row in rows)
    findings.lost += [f"acknowledged, but not kept: {key}" for key in set(acked) - set(kept)]
    findings.lost += [f"{r.webhook_id} is {r.state}: {r.error}" for r in rows if r.state != "done"]
    findings.double += [f"kept {number} times: {key}" for key, number in kept.items() if number > 1]
    findings.double += [f"nobody sent it: {key}" for key in set(kept) - {sending.key for sending in sendings}]


def refunds_are_there_once(tale: Tale, findings: Findings) -> None:
    with tale.books.engine.connect() as connection:
        ids = connection.execute(
            text("select refund_id from refunds where shop_id = :shop"), {"shop": tale.books.shop_id}
        ).scalars()
        rows = Counter(ids)
    findings.lost += [f"refund {id} left no row" for id in tale.refund_ids - set(rows)]
    findings.double += [f"refund {id} has {number} rows" for id, number in rows.items() if number > 1]


def books_are_right(tale: Tale, findings: Findings) -> None:
    """The oracle, the product's own verification and a replay agree with what stands."""
    books, until = tale.books, datetime.now(UTC)
    books.pass_time(now=until)
    wanted, found = expected(books.world.shop().settle(until)), state_of(books)
    for kind, rows in wanted.items():
        findings.mismatch += [
            f"{books.domain} {kind} {id}: expected {rows.get(id)}, found {found[kind].get(id)}"
            for id in sorted({*rows, *found[kind]})
            if rows.get(id) != found[kind].get(id)
        ]
    with books.engine.connect() as connection:
        findings.mismatch += [f"verify: {difference}" for difference in verify(connection, books.shop_id)]
    again = replay(books.engine, books.domain)
    if again.changed:
        findings.mismatch.append(f"{books.domain}: a replay posted {again.changed} entries")
    if state_of(books) != found:
        findings.mismatch.append(f"{books.domain}: a replay changed what stands")


def entries_of(engine: Engine, shop_id: int) -> list[Any]:
    """The ledger without numbers that differ from run to run."""
    with engine.connect() as connection:
        return sorted(
            tuple(row)
            for row in connection.execute(
                text(
                    "select customer_id, lot, kind, amount, event_at, event_kind, event_target, event_cause"
                    " from entries where shop_id = :shop"
                ),
                {"shop": shop_id},
            )
        )
