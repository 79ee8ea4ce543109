"""A receiver that keeps whatever comes: the key that makes a webhook id unique is gone from its statement."""

from __future__ import annotations

from app import inbox

KEY = "on conflict (shop_domain, webhook_id) do nothing"

assert KEY in inbox.INSERT
inbox.INSERT = inbox.INSERT.replace(KEY, "")

from app.wsgi import application  # noqa: E402, F401 - built from what was broken above
