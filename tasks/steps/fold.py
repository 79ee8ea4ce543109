"""The fold of wallets on the books: rewind to just before the first change, fold again, keep the difference (R0).

In time order nothing is rewound: only the new events are folded, on the lots that stand. A late fact rewinds by
taking back what was posted for events after it, which is just what must be folded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text

from models.rules.wallet import (
    APPROVAL,
    CLAIM,
    RETURN,
    SPEND,
    EventKey,
    Fold,
    Lot,
    Posting,
    WalletState,
    fold,
    is_lot_of_return,
)
from tasks.steps import sql
from tasks.steps.load import World
from tasks.steps.timeline import Changes, Item, ItemId, event_of, item_id

AFTER_ALL_KINDS = 99
PREFIX_LOTS = 8  # how many first-expiring lots are read at first; almost every debit needs fewer

KEYS = (
    "unnest(cast(:customers as bigint[]), cast(:ats as timestamptz[]), cast(:kinds as smallint[]),"
    " cast(:sorts as bigint[]), cast(:targets as text[]), cast(:causes as text[]), cast(:untils as timestamptz[]))"
    " as k(customer_id, at, kind, sort_id, target, cause, until)"
)
WINDOW = text(
    f"select t.* from {KEYS} join timeline t on t.shop_id = :shop_id and t.customer_id = k.customer_id"
    " and t.at >= k.at and t.at <= k.until"
    ' where (t.at, t.kind, t.sort_id, t.target, t.cause) >= (k.at, k.kind, k.sort_id, k.target collate "C", k.cause collate "C")'
)
POSTED = text(
    "select e.customer_id, e.event_at, e.event_kind, e.event_sort, e.event_target, e.event_cause, e.lot, e.kind,"
    f" sum(e.amount)::bigint as amount from {KEYS}"
    " join entries e on e.shop_id = :shop_id and e.customer_id = k.customer_id and e.event_at >= k.at"
    " where (e.event_at, e.event_kind, e.event_sort, e.event_target, e.event_cause)"
    ' >= (k.at, k.kind, k.sort_id, k.target collate "C", k.cause collate "C")'
    " group by 1, 2, 3, 4, 5, 6, 7, 8 having sum(e.amount) <> 0"
)
DRAWS = text(
    "select e.customer_id, e.event_target, e.lot, (-sum(e.amount))::bigint as amount"
    f" from {KEYS} join unnest(cast(:draw_customers as bigint[]), cast(:draw_targets as text[])) as d(customer_id, target)"
    "   on d.customer_id = k.customer_id"
    " join entries e on e.shop_id = :shop_id and e.customer_id = d.customer_id and e.event_kind = 5"
    "   and e.kind = 'spend' and e.event_target = d.target collate \"C\""
    " where (e.event_at, e.event_kind, e.event_sort, e.event_target, e.event_cause)"
    ' < (k.at, k.kind, k.sort_id, k.target collate "C", k.cause collate "C")'
    " group by 1, 2, 3 having sum(e.amount) <> 0"
)
EARLIER = text(
    "select t.customer_id, t.redemption_id, t.kind, sum(t.amount)::bigint as amount, sum(t.short)::bigint as short"
    f" from {KEYS} join unnest(cast(:draw_customers as bigint[]), cast(:draw_redemptions as bigint[])) as d(customer_id, redemption_id)"
    "   on d.customer_id = k.customer_id"
    " join timeline t on t.shop_id = :shop_id and t.redemption_id = d.redemption_id and t.customer_id = d.customer_id"
    "   and t.folded"
    ' where (t.at, t.kind, t.sort_id, t.target, t.cause) < (k.at, k.kind, k.sort_id, k.target collate "C", k.cause collate "C")'
    " group by 1, 2, 3"
)
NAMED_LOTS = text(
    "select l.customer_id, l.lot, l.at, l.amount, l.remainder, l.expires_at"
    " from unnest(cast(:customers as bigint[]), cast(:lots as text[])) as n(customer_id, lot)"
    ' join lots l on l.shop_id = :shop_id and l.customer_id = n.customer_id and l.lot = n.lot collate "C"'
)
FIRST_LOTS = text(
    "select l.customer_id, l.lot, l.at, l.amount, l.remainder, l.expires_at"
    " from unnest(cast(:customers as bigint[])) as n(customer_id) cross join lateral ("
    "   select * from lots l where l.shop_id = :shop_id and l.customer_id = n.customer_id and l.remainder > 0"
    "   order by l.expires_at, l.at, l.lot limit :most) l"
)


@dataclass(slots=True)
class WalletFold:
    """One wallet's fold: its window of the timeline before and after, and what it moves."""

    customer_id: int
    start: EventKey
    until: datetime
    balance: int
    debt: int
    rewinds: bool  # something changes that was folded already
    stored: dict[ItemId, Item] = field(default_factory=dict)  # rows of the window as they stood
    window: dict[ItemId, Item] = field(default_factory=dict)  # rows of the window as they should stand
    posted: dict[tuple[EventKey, str, str], int] = field(default_factory=dict)
    lots: dict[str, Lot] = field(default_factory=dict)  # as they stand in the books
    draws: dict[int, list[tuple[str, int]]] = field(default_factory=dict)
    earlier: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    first_lots: set[str] = field(default_factory=set)
    made: Fold | None = None

    def differences(self) -> list[Posting]:
        """What to post: the fold's postings less what was posted for the same events."""
        assert self.made is not None
        left = dict(self.posted)
        for posting in self.made.postings:
            key = posting.event, posting.lot, posting.kind
            left[key] = left.get(key, 0) - posting.amount
        return [Posting(*key, -amount) for key, amount in left.items() if amount]


def fold_wallets(world: World, changes: Changes, customers: Iterable[int]) -> list[WalletFold]:
    """Fold the wallets that change, or that are named because time has passed. Locks are held by the caller."""
    firsts = changes.keys()
    folds = [_opened(world, id, firsts.get(id)) for id in sorted({*firsts, *customers})]
    if not folds:
        return []
    keys = _key_arrays(world, folds)
    by_id = {each.customer_id: each for each in folds}
    for row in sql.fetch(world.connection, WINDOW, **keys):
        stood = dict(row._mapping)
        by_id[row.customer_id].stored[item_id(stood)] = stood
    _load_posted(world, by_id, [each for each in folds if each.rewinds])
    for each in folds:
        _lay_window(each, changes)
    _load_draws(world, by_id, keys)
    _load_lots(world, by_id)
    for each in folds:
        _fold_one(world, each)
    return folds


def _opened(world: World, customer_id: int, first: EventKey | None) -> WalletFold:
    wallet = world.wallets[customer_id]
    folded = (wallet.folded_until, AFTER_ALL_KINDS, 0, "", "")
    start = folded if first is None else min(first, folded)
    until = max(world.now, wallet.folded_until)
    return WalletFold(customer_id, start, until, wallet.balance, wallet.debt, rewinds=start < folded)


def _load_posted(world: World, by_id: Mapping[int, WalletFold], late: Sequence[WalletFold]) -> None:
    """What was posted since the window's start; only a wallet that rewinds has any, for nothing is posted ahead."""
    if not late:
        return
    for row in sql.fetch(world.connection, POSTED, **_key_arrays(world, late)):
        key = (row.event_at, row.event_kind, row.event_sort, row.event_target, row.event_cause)
        by_id[row.customer_id].posted[key, row.lot, row.kind] = row.amount


def _key_arrays(world: World, folds: Sequence[WalletFold]) -> dict[str, Any]:
    return {
        "shop_id": world.shop.id,
        "customers": [each.customer_id for each in folds],
        "ats": [each.start[0] for each in folds],
        "kinds": [each.start[1] for each in folds],
        "sorts": [each.start[2] for each in folds],
        "targets": [each.start[3] for each in folds],
        "causes": [each.start[4] for each in folds],
        "untils": [each.until for each in folds],
    }


def _lay_window(each: WalletFold, changes: Changes) -> None:
    each.window = {
        id: row for id, row in each.stored.items() if id not in changes.gone and id not in changes.new
    }
    for id, row in changes.new.items():
        if row["customer_id"] == each.customer_id and row["at"] <= each.until:
            each.window[id] = row


def _load_draws(world: World, by_id: Mapping[int, WalletFold], keys: Mapping[str, Any]) -> None:
    """What the redemptions returned in a window drew, and what came back of them, before the window."""
    wanted = sorted(
        {
            (each.customer_id, row["redemption_id"], row["target"])
            for each in by_id.values()
            for row in each.window.values()
            if row["kind"] == RETURN and row["amount"]
        }
    )
    if not wanted:
        return
    more = {
        "draw_customers": [customer for customer, _, _ in wanted],
        "draw_redemptions": [redemption for _, redemption, _ in wanted],
        "draw_targets": [target for _, _, target in wanted],
    }
    ids = {target: redemption for _, redemption, target in wanted}
    draws = {name: value for name, value in more.items() if name != "draw_redemptions"}
    for row in sql.fetch(world.connection, DRAWS, **keys, **draws):
        drawn = by_id[row.customer_id].draws.setdefault(ids[row.event_target], [])
        drawn.append((row.lot, row.amount))
    earlier = {name: value for name, value in more.items() if name != "draw_targets"}
    for row in sql.fetch(world.connection, EARLIER, **keys, **earlier):
        by_id[row.customer_id].earlier[row.redemption_id, row.kind] = row.amount, row.short


def _load_lots(world: World, by_id: Mapping[int, WalletFold]) -> None:
    named = [(each.customer_id, lot) for each in by_id.values() for lot in _named_lots(each)]
    if named:
        customers, lots = [customer for customer, _ in named], [lot for _, lot in named]
        for row in sql.fetch(
            world.connection, NAMED_LOTS, shop_id=world.shop.id, customers=customers, lots=lots
        ):
            _keep_lot(by_id[row.customer_id], row)
    _load_first_lots(world, by_id, list(by_id), PREFIX_LOTS)


def _load_first_lots(
    world: World, by_id: Mapping[int, WalletFold], customers: Sequence[int], most: int | None
) -> None:
    for row in sql.fetch(
        world.connection, FIRST_LOTS, shop_id=world.shop.id, customers=list(customers), most=most
    ):
        by_id[row.customer_id].first_lots.add(row.lot)
        _keep_lot(by_id[row.customer_id], row)


def _keep_lot(each: WalletFold, row: Any) -> None:
    each.lots[row.lot] = Lot(row.lot, row.at, row.amount, row.remainder, row.expires_at)


def _named_lots(each: WalletFold) -> set[str]:
    """The lots that the window surely touches."""
    named = {lot for _, lot, _ in each.posted}
    named |= {row["target"] for row in each.window.values() if row["kind"] == CLAIM and row["amount"]}
    return named | {lot for drawn in each.draws.values() for lot, _ in drawn}


def _fold_one(world: World, each: WalletFold) -> None:
    state = _state_before(each)
    if len(each.first_lots) >= PREFIX_LOTS and not _enough(each, state):
        _load_first_lots(world, {each.customer_id: each}, [each.customer_id], None)
        state = _state_before(each)
    rows = [row for row in each.window.values() if not row["reduces_pending"]]
    balance = each.balance - sum(each.posted.values())
    each.made = fold(state, [event_of(row) for row in rows], each.until, balance=balance)


def _state_before(each: WalletFold) -> WalletState:
    """The wallet as it stood just before the window: what was posted since, taken back."""
    lots = {name: Lot(x.lot, x.at, x.amount, x.remainder, x.expires_at) for name, x in each.lots.items()}
    made_since = set()
    for (event, name, kind), amount in each.posted.items():
        lots[name].remainder -= amount
        if kind in ("grant", "approval") or (kind == "return" and is_lot_of_return(name, event)):
            made_since.add(name)
    for name in made_since:
        assert lots[name].remainder == 0, name
        del lots[name]
    rewound = sum(row["debt_change"] for row in each.stored.values() if row["folded"])
    state = WalletState(lots=lots, debt=each.debt - rewound)
    for redemption, drawn in each.draws.items():
        ranked: list[tuple[str | None, int]] = [*sorted(drawn, key=lambda d: each.lots[d[0]].rank)]
        state.draws[redemption] = ranked
    for (redemption, event_kind), (amount, short) in each.earlier.items():
        if event_kind == SPEND and short:
            state.draws.setdefault(redemption, []).append((None, short))
        if event_kind == RETURN:
            state.came_back[redemption] = amount
    return state


def _enough(each: WalletFold, state: WalletState) -> bool:
    """Whether the lots read cover every debit of the window, so that no unread lot could be touched."""
    if any(lot.expires_at is not None and lot.expires_at <= each.until for lot in state.lots.values()):
        return False
    wanted: dict[str, int] = {}
    for row in each.window.values():
        if row["kind"] in (CLAIM, SPEND) and not row["reduces_pending"] and not event_of(row).brings_its_lot:
            wanted[row["target"]] = wanted.get(row["target"], 0) + row["amount"]
    own = {name: lot.remainder for name, lot in state.lots.items()}
    if not state.debt:
        own |= {row["target"]: row["amount"] for row in each.window.values() if row["kind"] == APPROVAL}
    if all(own.get(name, 0) >= amount for name, amount in wanted.items()):
        spends = any(
            row["kind"] == SPEND and not event_of(row).brings_its_lot for row in each.window.values()
        )
        if not spends:
            return True
    first = sum(state.lots[name].remainder for name in each.first_lots if name in state.lots)
    return first >= sum(wanted.values())
