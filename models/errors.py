"""Every error of the product, drawn as a tree. Each is *later* (try again) or *never* (park it and say why).

UnwindError
|-- Later                   the world may change: the event stays pending and is tried again
|   |-- DatabaseBusy
|   |-- BrokerUnreachable
|   |-- ShopifyUnreachable  no answer, or one of its own trouble
|   |-- ShopifyThrottled    says how long to wait
|   |-- NameLookUpTimedOut  no resolver answered, so where an address leads is not known
|   `-- OutcomeUnknown      a change was sent and no answer came: read the state before sending it again
`-- Never                   trying again cannot help: the event is parked under `failed` with the reason
    |-- Unparseable         signed by Shopify, kept as it came, but not understood
    |-- UnknownShop
    |-- UnknownTopic
    |-- MissingWebhookId
    |-- AttemptsExhausted   each try killed the worker
    |-- RefundOfAnotherOrder
    |-- ForeignShop         the signed body is of another shop than the headers say
    |-- OrderOfAnotherShop  the order is on record at another of our shops: a body sent again under this one's name
    |-- MergeConflict       goes against a merge of customers that was told before (R33)
    |-- BodyErased          on record is only that the event came
    |-- ShopifyRefused      understood, and not done: its user errors say why
    |-- AccessDenied        a scope or an approval is missing
    |-- NeedsMerchant       no token that works: the merchant must open the app once
    |-- InvalidSetting      a setting or a program that cannot be
    |-- NotFound            the caller named something this shop does not have
    |-- Refused             the caller asked for something the rules forbid
    `-- InvariantBroken     the books would not balance: nothing was written
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class UnwindError(Exception):
    """Base of all. `code` is stable and goes to callers; the message is for people."""

    code = "error"


def code_of(error: BaseException | None) -> str:
    """The stable code of one of ours; `internal` for any other, whatever it calls its own code."""
    return error.code if isinstance(error, UnwindError) else "internal"


class Later(UnwindError):
    code = "try_again"


class DatabaseBusy(Later):
    code = "database_busy"


class BrokerUnreachable(Later):
    code = "broker_unreachable"


class ShopifyUnreachable(Later):
    """No answer within the time limit, or an answer of Shopify's own trouble (5xx). Nothing was changed there."""

    code = "shopify_unreachable"


class ShopifyThrottled(Later):
    """Too many calls for this shop. `wait_seconds`: when the bucket has filled enough for the call."""

    code = "shopify_throttled"

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(f"Shopify asks to wait {wait_seconds:.1f} s")
        self.wait_seconds = wait_seconds


class NameLookUpTimedOut(Later):
    code = "name_look_up_timed_out"


class OutcomeUnknown(Later):
    """A mutation was sent and its answer never came: it may have been done. Read the state, then set absolute values."""

    code = "outcome_unknown"


class Never(UnwindError):
    code = "failed"


class Unparseable(Never):
    """A signed body whose `field` cannot be understood, for `reason`."""

    code = "unparseable"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class UnknownShop(Never):
    code = "unknown_shop"

    def __init__(self, domain: str) -> None:
        super().__init__(
            f"{domain} is not installed; once its merchant installs the app this is done by itself,"
            f" or `unwind shop add {domain}` registers it, then retry the event"
        )
        self.domain = domain


class UnknownTopic(Never):
    code = "unknown_topic"

    def __init__(self, topic: str) -> None:
        super().__init__(f"nothing is done for the topic {topic!r}; the event is kept")
        self.topic = topic


class MissingWebhookId(Never):
    code = "missing_webhook_id"

    def __init__(self) -> None:
        super().__init__("the delivery had no webhook id header, so repeats of it could not be told apart")


class AttemptsExhausted(Never):
    """Every try of an event ended without a word: the process that worked on it died."""

    code = "attempts_exhausted"

    def __init__(self, attempts: int) -> None:
        super().__init__(
            f"{attempts} tries ended without a word; look at the worker's log, then retry the event"
        )
        self.attempts = attempts


class RefundOfAnotherOrder(Never):
    """A refund id that is on record under another order: one of the two tellings is wrong, and neither is overwritten."""

    code = "refund_of_another_order"

    def __init__(self, refund_id: int) -> None:
        super().__init__(f"refund {refund_id} is on record under another order; compare the two payloads")
        self.refund_id = refund_id


class ForeignShop(Never):
    """A signed body that does not name the shop its headers name: headers are not signed, the body is believed."""

    code = "foreign_shop"

    def __init__(self, domain: str) -> None:
        super().__init__(f"the body is not of {domain}, which the headers name; nothing was done for either")
        self.domain = domain


class OrderOfAnotherShop(Never):
    """Shopify's order ids are its own for all shops: one that another shop has cannot be this shop's as well."""

    code = "order_of_another_shop"

    def __init__(self, order_id: int) -> None:
        super().__init__(
            f"order {order_id} is on record at another shop; the delivery's headers name the wrong one"
        )
        self.order_id = order_id


class MergeConflict(Never):
    """A merge that goes against one told before: merged both ways, in a ring, or into two customers (R33)."""

    code = "merge_conflict"

    def __init__(self, customer_id: int, kept_id: int, survivor_id: int) -> None:
        super().__init__(
            f"customer {customer_id} cannot be merged into {kept_id}: told before as one with {survivor_id};"
            " look at the two customers at Shopify, then discard the event, or retry it once the other is told"
        )
        self.customer_id = customer_id
        self.kept_id = kept_id
        self.survivor_id = survivor_id


class BodyErased(Never):
    """The event is on record, what it said is not: erased by its age, or because a customer or shop was redacted."""

    code = "body_erased"

    def __init__(self) -> None:
        super().__init__("the event's body was erased (docs/privacy.md), so it cannot be worked on again")


class UserError(NamedTuple):
    """One of Shopify's `userErrors`: its code (may be missing), the path of the input it means, its sentence."""

    code: str | None
    field: tuple[str, ...]
    message: str


class ShopifyRefused(Never):
    """Shopify understood and did not do it."""

    code = "shopify_refused"

    def __init__(self, operation: str, errors: Sequence[UserError]) -> None:
        super().__init__(f"{operation}: " + "; ".join(f"{e.message} ({e.code})" for e in errors))
        self.operation = operation
        self.errors = tuple(errors)

    @property
    def codes(self) -> frozenset[str | None]:
        return frozenset(error.code for error in self.errors)


class AccessDenied(Never):
    """The app may not do this at the shop: a scope is not granted, or protected data not approved."""

    code = "access_denied"


class NeedsMerchant(Never):
    """The shop has no token that works. `reason`: not_connected, refresh_token_expired, token_revoked, scopes_missing,
    uninstalled. The remedy is the merchant's: open the app once."""

    code = "needs_merchant"

    def __init__(self, domain: str, reason: str) -> None:
        super().__init__(
            f"{domain} gave no token that works ({reason}); its merchant has to open the app once"
        )
        self.domain = domain
        self.reason = reason


class InvalidSetting(Never):
    """A setting that is unknown or impossible. `field` is its dotted path."""

    code = "invalid_setting"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class NotFound(Never):
    code = "not_found"

    def __init__(self, kind: str, id: object) -> None:
        super().__init__(f"no {kind} {id}")
        self.kind = kind
        self.id = str(id)


class Refused(Never):
    """The rules forbid it. `code` names the rule's refusal for the caller."""

    def __init__(self, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class InvariantBroken(Never):
    code = "invariant_broken"
