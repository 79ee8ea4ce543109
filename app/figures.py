"""The figures of /metrics that stand in the books and in the broker, asked for when somebody looks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import Connection, text

from tasks.gateway.counts import THROTTLED
from tasks.steps.attention import MOVED
from tasks.steps.installations import TOKEN_DEAD
from tasks.steps.listings import NEEDS_A_LOOK, QUIET_FLAGS
from tasks.steps.privacy import LATE_DAYS
from worker.topics import label_of

WAITING = text("""
select topic, state, count(*) from inbox where state = 'pending' group by 1, 2
union all
select topic, state, count(*) from inbox where state = 'failed' group by 1, 2
""")
OLDEST = text(
    "select coalesce(extract(epoch from now() - min(received_at)), 0) from inbox where state = 'pending'"
)
REFUNDS = text("""
select case when undone then 'undone' when value_minor > 0 then 'with_money'
            else coalesce(lower(reasons ->> 0), 'without_money') end, count(*)
  from refunds group by 1
""")
# Of shops that were removed nothing can be put right any more, so nothing of theirs may call for somebody.
HERE = "in (select id from shops where state = 'installed')"
# Without what a merchant has put aside, until it happens again: nobody waits for that.
FLAGGED = text(f"""
select f.flag, count(*), coalesce(extract(epoch from now() - min(o.seen_at)), 0)
  from orders o cross join lateral jsonb_array_elements_text(o.flags) f(flag)
 where o.shop_id {HERE} and {NEEDS_A_LOOK.replace("flags", "o.flags")} and f.flag <> all (array{list(QUIET_FLAGS)!r})
   and not exists (select from dismissals d where d.shop_id = o.shop_id and d.kind = 'order'
    and d.subject = o.order_id || ':' || f.flag and d.at >= {MOVED}) group by 1
""")
RECONCILED = text("""
select kind, state, count(*), sum(missing), sum(different), sum(repaired) from reconciliations group by 1, 2 order by 1, 2
""")
BEHIND = text("""
select coalesce(extract(epoch from now() - min(coalesce(i.orders_read_until, i.obtained_at))), 0)
  from installations i join shops s on s.id = i.shop_id
 where i.state = 'active' and i.access_token is not null and s.state = 'installed'
""")
OUTBOX = text(f"""
select kind, 'pending', count(*), coalesce(extract(epoch from now() - min(created_at)), 0)
  from outbox where state in ('pending', 'leased') group by 1
union all
select o.kind, 'failed', count(*), 0 from outbox o where o.state = 'failed' and o.shop_id {HERE}
   and not exists (select from dismissals d where d.shop_id = o.shop_id and d.kind = 'outbox'
    and d.subject = o.id::text and d.at >= coalesce(o.finished_at, o.created_at)) group by 1
""")
DELIVERIES = text(f"""
select (select count(*) from deliveries where state = 'pending' and shop_id {HERE}),
       (select count(*) from deliveries where state = 'waiting' and shop_id {HERE}),
       (select coalesce(extract(epoch from now() - min(created_at)), 0) from deliveries
         where state = 'pending' and shop_id {HERE})
""")
ENDPOINTS = text(f"""
select w.reason, count(e.id)
  from (values ('failing'), ('gone'), ('by_hand')) w(reason)
  left join endpoints e on e.state = 'paused' and e.paused_reason = w.reason and e.shop_id {HERE} group by 1 order by 1
""")
POINTS = text("""
select (select coalesce(sum(reversed), 0) from awards), (select coalesce(sum(shortfall), 0) from awards),
       (select coalesce(sum(returned), 0) from redemptions), (select coalesce(sum(expired), 0) from redemptions)
""")
CONNECTIONS = text(f"""
select w.reason, count(i.shop_id)
  from (values ('refresh_token_expired'), ('scopes_missing'), ('token_revoked')) w(reason)
  left join installations i on i.reason = w.reason and i.shop_id {HERE} group by 1 order by 1
""")
LAPSING = text(f"""
select extract(epoch from min(refresh_expires_at) - now()), count(*) filter (where subscriptions_error is not null)
  from installations where shop_id {HERE} and state <> 'uninstalled' and not coalesce(reason, '') = any(:dead)
""")
PRIVACY = text("""
select k.kind, count(r.id), coalesce(extract(epoch from now() - min(r.requested_at)), 0),
       count(r.id) filter (where r.requested_at < now() - cast(:late as int) * interval '1 day')
  from (values ('data_request'), ('shop_redact')) k(kind)
  left join privacy_requests r on r.kind = k.kind and r.state = 'open' group by 1 order by 1
""")


def of_database(connection: Connection) -> Iterator[Metric]:
    """What the database knows and answers at once, however large it is: each has an index of its own."""
    yield from inbox_metrics(connection)
    yield from outbox_metrics(connection)
    yield from endpoint_metrics(connection)
    yield from flagged_metrics(connection)
    yield from behind_metrics(connection)
    yield from connection_metrics(connection)
    yield from privacy_metrics(connection)


def of_whole_tables(connection: Connection) -> Iterator[Metric]:
    """Sums over all that ever happened: they take the longer the more there is."""
    yield from book_metrics(connection)
    yield from reconcile_metrics(connection)


def gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=value)


def up(what: str, yes: bool) -> Metric:
    return gauge(f"unwind_{what}_up", f"Whether the {what} answered", float(yes))


def queue_metrics(depths: Mapping[str, object]) -> Metric:
    waiting = GaugeMetricFamily("unwind_queue_depth", "Messages waiting in the broker", labels=["queue"])
    for name, depth in depths.items():
        waiting.add_metric([name], float(str(depth)))
    return waiting


def shopify_metrics(calls: Sequence[tuple[str, str, int]]) -> Iterator[Metric]:
    """Calls to Shopify of all processes, as the gateway counts them in the broker."""
    made = CounterMetricFamily(
        "unwind_shopify_calls", "Calls to Shopify, by document and result", labels=["operation", "result"]
    )
    for operation, result, count in calls:
        made.add_metric([operation, result], count)
    throttled = sum(count for _, result, count in calls if result == THROTTLED)
    yield made
    yield CounterMetricFamily("unwind_shopify_throttled", "Calls that Shopify throttled", value=throttled)


def inbox_metrics(connection: Connection) -> Iterator[Metric]:
    """What waits and what is parked; both are small parts of the inbox with an index of their own."""
    counts: dict[tuple[str, str], int] = {}
    for topic, state, count in connection.execute(WAITING):
        key = (state, label_of(topic))
        counts[key] = counts.get(key, 0) + count
    for state, help in (("pending", "Events not yet processed"), ("failed", "Events parked with a reason")):
        family = GaugeMetricFamily(f"unwind_inbox_{state}", help, labels=["topic"])
        for (_, topic), count in sorted(item for item in counts.items() if item[0][0] == state):
            family.add_metric([topic], count)
        yield family
    oldest = connection.execute(OLDEST).scalar_one()
    yield gauge("unwind_inbox_oldest_seconds", "Age of the oldest event not yet processed", float(oldest))


def connection_metrics(connection: Connection) -> Iterator[Metric]:
    """What somebody has to do something about: each reason is there at 0 too, so that an alert finds it."""
    needing = GaugeMetricFamily(
        "unwind_shops_needing_merchant",
        "Shops whose merchant has to open the app once, by reason",
        labels=["reason"],
    )
    for reason, count in connection.execute(CONNECTIONS):
        needing.add_metric([reason], count)
    yield needing
    soonest, failing = connection.execute(LAPSING, {"dead": list(TOKEN_DEAD)}).one()
    if soonest is not None:
        yield gauge(
            "unwind_refresh_token_expires_soonest_seconds",
            "Until the first refresh token of a connected shop ends; below 30 days the daily job does not run",
            float(soonest),
        )
    yield gauge(
        "unwind_shops_subscriptions_failing",
        "Connected shops whose webhook subscriptions could not be set right",
        float(failing),
    )


def reconcile_metrics(connection: Connection) -> Iterator[Metric]:
    """Comparisons with Shopify: how many, and what they found."""
    runs = GaugeMetricFamily(
        "unwind_reconcile_runs", "Comparisons with Shopify, by kind and state", labels=["kind", "state"]
    )
    found = GaugeMetricFamily(
        "unwind_reconcile_orders", "Orders that were not as Shopify says", labels=["found"]
    )
    sums = dict.fromkeys(("missing", "different", "repaired"), 0)
    for kind, state, count, *of_orders in connection.execute(RECONCILED):
        runs.add_metric([kind, state], count)
        sums = {name: sums[name] + int(n) for name, n in zip(sums, of_orders, strict=True)}
    for name, count in sums.items():
        found.add_metric([name], count)
    yield from (runs, found)


def behind_metrics(connection: Connection) -> Iterator[Metric]:
    behind = connection.execute(BEHIND).scalar_one()
    yield gauge(
        "unwind_reconcile_behind_seconds",
        "Since when the orders of some connected shop were not compared",
        float(behind),
    )


def privacy_metrics(connection: Connection) -> Iterator[Metric]:
    """What customers and shops asked of their data and did not get yet; the law gives it 30 days."""
    names = ("requests_open", "requests_oldest_seconds", "requests_overdue")
    helps = ("Requests not yet answered", "Age of the oldest such", "Such that are older than 20 days")
    families = [
        GaugeMetricFamily(f"unwind_privacy_{name}", help, labels=["kind"])
        for name, help in zip(names, helps, strict=True)
    ]
    for kind, *figures in connection.execute(PRIVACY, {"late": LATE_DAYS}):
        for family, figure in zip(families, figures, strict=True):
            family.add_metric([kind], float(figure))
    yield from families


def outbox_metrics(connection: Connection) -> Iterator[Metric]:
    """What is still to be done at Shopify, and what could not be."""
    rows = GaugeMetricFamily(
        "unwind_outbox", "Work outside, by kind: pending or failed", labels=["kind", "state"]
    )
    oldest = 0.0
    for kind, state, count, age in connection.execute(OUTBOX):
        rows.add_metric([kind, state], count)
        oldest = max(oldest, float(age))
    yield rows
    yield gauge("unwind_outbox_oldest_seconds", "Age of the oldest work outside that is not done", oldest)


def endpoint_metrics(connection: Connection) -> Iterator[Metric]:
    """What is on its way to merchants' own systems, and the endpoints that nothing is sent to."""
    pending, waiting, oldest = connection.execute(DELIVERIES).one()
    open_ = GaugeMetricFamily(
        "unwind_deliveries_open",
        "Messages to endpoints: due or to be tried again, or waiting",
        labels=["state"],
    )
    open_.add_metric(["pending"], pending)
    open_.add_metric(["waiting"], waiting)
    yield open_
    yield gauge("unwind_deliveries_oldest_seconds", "Age of the oldest pending one", float(oldest))
    paused = GaugeMetricFamily(
        "unwind_endpoints_paused", "Endpoints that are paused, and why", labels=["reason"]
    )
    for reason, count in connection.execute(ENDPOINTS):
        paused.add_metric([reason], count)
    yield paused


def sweep_metrics(counts: Sequence[tuple[str, str, int]], last: int | None, now: float) -> Iterator[Metric]:
    """Of all processes. A sweep runs every two seconds while the scheduler and a worker are well."""
    runs = CounterMetricFamily(
        "unwind_sweeps", "Sweeps, by what held them back (done: nothing did)", labels=["result"]
    )
    for _, result, count in (each for each in counts if each[0] == "runs"):
        runs.add_metric([result], count)
    found = sum(count for what, _, count in counts if what == "events")
    yield runs
    yield CounterMetricFamily(
        "unwind_sweep_findings", "Events that nobody worked on and a sweep rang for", value=found
    )
    since = math.inf if last is None else max(0.0, now - last)  # a clock that never ran is found, too
    yield gauge("unwind_sweep_last_seconds", "Since the last sweep; +Inf: there was none", since)


def delivery_tries(tries: Sequence[tuple[str, str, int]]) -> Metric:
    """Tries of all processes, by what came of them."""
    made = CounterMetricFamily(
        "unwind_deliveries", "Tries to tell an endpoint, by outcome", labels=["outcome"]
    )
    for _, outcome, count in tries:
        made.add_metric([outcome], count)
    return made


def book_metrics(connection: Connection) -> Iterator[Metric]:
    refunds = GaugeMetricFamily("unwind_refunds", "Refunds known, by outcome", labels=["outcome"])
    for outcome, count in connection.execute(REFUNDS):
        refunds.add_metric([outcome], count)
    yield refunds
    reversed_, forgiven, returned, expired = connection.execute(POINTS).one()
    yield gauge("unwind_points_reversed", "Earned value taken back, in the smallest unit", float(reversed_))
    yield gauge("unwind_points_forgiven", "Taken back, but not there to take: forgiven", float(forgiven))
    yield gauge("unwind_points_returned", "Redeemed value given back, in the smallest unit", float(returned))
    yield gauge("unwind_points_expired", "Of what was given back: expired by then", float(expired))


def flagged_metrics(connection: Connection) -> Iterator[Metric]:
    """Orders that wait for a decision or say something odd."""
    flagged = GaugeMetricFamily("unwind_orders_flagged", "Orders a person should look at", labels=["flag"])
    oldest = GaugeMetricFamily(
        "unwind_orders_flagged_oldest_seconds", "Age of the oldest such", labels=["flag"]
    )
    for flag, count, age in connection.execute(FLAGGED):
        flagged.add_metric([flag], count)
        oldest.add_metric([flag], float(age))
    yield from (flagged, oldest)
