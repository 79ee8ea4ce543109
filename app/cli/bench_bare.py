"""The yardstick of the receiver: the same kind of server, which only checks the HMAC and forgets the webhook."""

from __future__ import annotations

from flask import Flask, Response, request

from app.signature import is_signed
from models.settings import load_settings

application = Flask("bare")
secrets = load_settings(None).webhook_secrets


@application.post("/webhooks")
def webhook() -> Response:
    signed = is_signed(request.get_data(), secrets, request.headers.get("X-Shopify-Hmac-Sha256"))
    return Response(b"{}", 200 if signed else 401, content_type="application/json")
