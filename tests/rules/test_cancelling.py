"""R34: what cancelling a redemption does, by the state of its code, as it is told to the merchant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules.cancelling import (
    ALREADY_REFUNDED,
    ASKED_FIRST,
    CODE_IN_FLIGHT,
    GIVEN_BACK_AS_CODE,
    STATES,
    Standing,
    Verdict,
    verdict,
)

STANDS = Standing(kind="amount_discount", left=500, code_state="active")
ORDER = 450789469


def row(id: str, state: str, *, does: str, refusal: str | None = None, **stands: Any) -> Any:
    """does: what happens when it is not refused: what becomes of the code, or `removed first`; or nothing."""
    return pytest.param(stands, state, refusal, does, id=id)


@pytest.mark.parametrize(
    ("stands", "state", "refusal", "does"),
    [
        row("unused", "unused", does="removed first"),
        row("unused, given to us", "unused", does="removed first", code_state="tracked"),
        row("unused, not made yet", "unused", does="removed first", code_state="wanted"),
        row("unused, gone already", "unused", does="removed", code_state="removed"),
        row("unused, it came back", "unused", does="removed first", came_back=True),
        row(
            "unused, the rule is gone",
            "unused_rule_gone",
            does="unchanged",
            refusal="spending_rule_gone",
            rule_gone=True,
        ),
        row(
            "gone already, and so is the rule", "unused", does="removed", code_state="removed", rule_gone=True
        ),
        row("it came back, the rule is gone", "unused", does="removed first", came_back=True, rule_gone=True),
        row("used", "used", does="stays_used", refusal="code_used", used_on=ORDER),
        row(
            "used, the rule is gone",
            "used",
            does="stays_used",
            refusal="code_used",
            used_on=ORDER,
            rule_gone=True,
        ),
        row("used, says Shopify", "used", does="stays_used", refusal="code_used", refused="code_used"),
        row(
            "a gift card", "used", does="stays_used", refusal="code_used", kind="gift_card", code_state="none"
        ),
        row(
            "store credit",
            "used",
            does="stays_used",
            refusal="code_used",
            kind="store_credit",
            code_state="none",
        ),
        row("untracked", "untracked", does="untracked", kind="custom", code_state="none"),
        row("an entry to a tier", "untracked", does="untracked", kind="vip_entry", code_state="none"),
        row(
            "untracked, the rule is gone",
            "untracked",
            does="untracked",
            kind="membership",
            code_state="none",
            rule_gone=True,
        ),
        row("all of it came back", "already_refunded", does="nothing", refusal="already_refunded", left=0),
        row(
            "all of it came back, of a used code",
            "already_refunded",
            does="nothing",
            refusal="already_refunded",
            left=0,
            used_on=ORDER,
        ),
        row("being taken away", "code_being_changed", does="nothing", asked=True),
        row(
            "just coming back",
            "code_being_changed",
            does="nothing",
            refusal="code_in_flight",
            in_flight=True,
            used_on=ORDER,
        ),
        row("shared, says Shopify", "unused", does="unchanged", refusal="code_shared", refused="code_shared"),
        row("refused by Shopify for once", "unused", does="removed first", refused="access_denied"),
        row(
            "given to us, and nobody to ask",
            "unused",
            does="not_reachable",
            code_state="tracked",
            connected=False,
        ),
        row(
            "ours, and nobody to ask",
            "unused",
            does="not_reachable",
            refusal="not_connected",
            connected=False,
        ),
        row(
            "it came back, and nobody to ask",
            "unused",
            does="nothing",
            refusal="given_back_as_code",
            came_back=True,
            connected=False,
        ),
        row(
            "it came back, shared",
            "unused",
            does="nothing",
            refusal="given_back_as_code",
            came_back=True,
            refused="code_shared",
        ),
    ],
)
def test_the_state_of_the_code_decides(
    stands: dict[str, Any], state: str, refusal: str | None, does: str
) -> None:
    """R34: five states, and where Shopify has to be asked or is being asked."""
    found = verdict(replace(STANDS, **stands))
    assert (found.state, found.refusal, done_by(found)) == (state, refusal, does)
    assert found.needs_force == (refusal in ASKED_FIRST)


def test_every_state_and_every_refusal_stands_in_the_document() -> None:
    document = (Path(__file__).parents[2] / "docs/codes.md").read_text()
    told = {*STATES, *ASKED_FIRST, ALREADY_REFUNDED, CODE_IN_FLIGHT, GIVEN_BACK_AS_CODE}
    assert [name for name in sorted(told) if f"`{name}`" not in document] == []


def done_by(found: Verdict) -> str:
    return "removed first" if found.removes else found.code or "nothing"


def test_the_date_of_the_refund_is_told() -> None:
    """R34: already refunded: the date of that refund, nothing done."""
    found = verdict(replace(STANDS, left=0, refunded_at=datetime(2026, 3, 5, 9, 30, tzinfo=UTC)))
    assert "2026-03-05" in found.message
    assert found.refuses(force=True)


standings = st.builds(
    Standing,
    kind=st.sampled_from(["amount_discount", "gift_card", "custom", "vip_entry"]),
    left=st.integers(0, 2),
    code_state=st.sampled_from(["none", "tracked", "wanted", "active", "removed", "failed"]),
    used_on=st.none() | st.just(ORDER),
    rule_gone=st.booleans(),
    connected=st.booleans(),
    asked=st.booleans(),
    in_flight=st.booleans(),
    came_back=st.booleans(),
    refused=st.sampled_from([None, "code_used", "code_shared", "not_connected", "access_denied"]),
)


@given(standings)
def test_every_standing_has_one_answer(now: Standing) -> None:
    """R21, R34: points come back at once only where the code needs no removing, and nothing comes back twice."""
    found = verdict(now)
    assert found.state in STATES and found.message
    if not found.refuses(force=True) and not now.asked:
        assert now.left and (found.removes != (found.code is not None))
    if now.came_back and now.used_on is None and now.refused != "code_used" and found.code is not None:
        assert now.code_state in ("removed", "failed", "none") or now.kind == "gift_card"


@given(standings)
def test_force_does_no_more_than_what_was_asked_first(now: Standing) -> None:
    """R34: what is refused for good is refused with force too."""
    found = verdict(now)
    assert found.refuses(force=False) == (found.refusal is not None)
    assert found.refuses(force=True) == (found.refusal is not None and not found.needs_force)
