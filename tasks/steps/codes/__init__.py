"""Discount codes at Shopify: made, taken away, given back. One benefit, once (R21-R23, R30, S11).

Each step reads the state, decides by the pure rules (models/rules/codes.py), says on its outbox row what it is about to
send, sends absolute values, reads back, and books. A worker that dies anywhere in between is followed by one that reads
what was done: what was done at Shopify is a fact, and is booked though nobody wants it any more (R23).
"""

from tasks.steps.codes.giving_back import codes_key, reactivate, reactivate_given_up
from tasks.steps.codes.making import create, create_given_up
from tasks.steps.codes.removing import remove, remove_given_up

__all__ = [
    "codes_key",
    "create",
    "create_given_up",
    "reactivate",
    "reactivate_given_up",
    "remove",
    "remove_given_up",
]
