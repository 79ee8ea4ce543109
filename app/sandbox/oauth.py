"""How an app gets into the pretend store: the merchant's consent page and the token endpoint."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
from flask import Blueprint, abort, jsonify, redirect, render_template_string, request
from flask.typing import ResponseReturnValue

from app.sandbox.access import OAuthRefused
from app.sandbox.faults import Fault, before, hang_up
from app.sandbox.shopfront import Shopfront, current

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105
OFFLINE = "urn:shopify:params:oauth:token-type:offline-access-token"
OPERATION = "access_token"

CONSENT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Install app</title>
<style>body{font:16px/1.5 system-ui;margin:3rem auto;max-width:34rem;padding:0 1rem}</style>
<h1>Install this app?</h1><p>It asks {{ domain }} for:</p>
<ul>{% for scope in scopes %}<li><code>{{ scope }}</code>{% endfor %}</ul>
<form method="post" action="{{ action }}">
{% for name, value in asked.items() %}<input type="hidden" name="{{ name }}" value="{{ value }}">{% endfor %}
<button>Install</button></form></html>"""

APP = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{{ domain }}: admin</title>
<style>body{font:16px/1.5 system-ui;margin:0}iframe{border:0;width:100%;height:90vh}p{margin:1rem}</style>
<p>The admin of {{ domain }}, with the app inside</p><iframe src="{{ inside }}"></iframe></html>"""

oauth = Blueprint("oauth", __name__, url_prefix="/admin")


@oauth.get("/oauth/authorize")
def ask() -> ResponseReturnValue:
    """The merchant's page. `grant=auto`, or a store that consents, answers without asking anybody."""
    shopfront, asked = current(), request.args.to_dict()
    _check(shopfront, asked)
    if shopfront.consents or asked.get("grant") == "auto":
        return _agreed(shopfront, asked)
    scopes = _scopes(asked)
    return render_template_string(
        CONSENT, domain=shopfront.domain, scopes=scopes, asked=asked, action=request.path
    )


@oauth.post("/oauth/authorize")
def agree() -> ResponseReturnValue:
    shopfront, asked = current(), request.form.to_dict()
    _check(shopfront, asked)
    return _agreed(shopfront, asked)


def _check(shopfront: Shopfront, asked: Mapping[str, str]) -> None:
    application = shopfront.application
    if asked.get("client_id") != application.key:
        abort(400, "Oauth error invalid_request: Could not find Shopify API application with api_key")
    wanted, ours = urlsplit(asked.get("redirect_uri", "")), urlsplit(application.app_url)
    allowed = wanted.scheme in ("http", "https") and bool(wanted.netloc)
    if not allowed or (ours.netloc and (wanted.scheme, wanted.netloc) != (ours.scheme, ours.netloc)):
        abort(400, "Oauth error invalid_request: The redirect_uri is not whitelisted")
    if asked.get("grant_options[]") == "per-user":
        abort(400, "the pretend store gives offline tokens only")


def _scopes(asked: Mapping[str, str]) -> list[str]:
    return [scope.strip() for scope in asked.get("scope", "").split(",") if scope.strip()]


def _agreed(shopfront: Shopfront, asked: Mapping[str, str]) -> ResponseReturnValue:
    with shopfront.lock:
        code = shopfront.access.consent(_scopes(asked))
    sent = {
        "code": code,
        "host": _host(shopfront),
        "shop": shopfront.domain,
        "state": asked.get("state", ""),
        "timestamp": str(int(shopfront.now().timestamp())),
    }
    sent["hmac"] = query_signature(sent, shopfront.application.secrets[0])
    return redirect(f"{asked['redirect_uri']}?{urlencode(sent)}")


@oauth.get("/apps/<key>")
def app_page(key: str) -> ResponseReturnValue:
    """The store's admin with the app in a frame, opened with a fresh session token as the admin opens it."""
    shopfront, application = current(), current().application
    if key != application.key or not application.app_url:
        abort(404, "no such app")
    now = int(shopfront.now().timestamp())
    sent = {
        "embedded": "1",
        "host": _host(shopfront),
        "id_token": session_token(shopfront, "1"),
        "shop": shopfront.domain,
        "timestamp": str(now),
    }
    sent["hmac"] = query_signature(sent, application.secrets[0])
    inside = f"{application.app_url}/?{urlencode(sent)}"
    return render_template_string(APP, domain=shopfront.domain, inside=inside)


def session_token(shopfront: Shopfront, user: str, **claims: object) -> str:
    """What App Bridge hands to an embedded page, good for a minute; `claims` replace those that would be right."""
    now, application = int(shopfront.now().timestamp()), shopfront.application
    right: dict[str, object] = {
        "iss": f"https://{shopfront.domain}/admin",
        "dest": f"https://{shopfront.domain}",
        "aud": application.key,
        "sub": user,
        "exp": now + 60,
        "nbf": now,
        "iat": now,
        "jti": secrets.token_hex(16),
        "sid": secrets.token_hex(16),
    }
    return jwt.encode({**right, **claims}, application.secrets[0], algorithm="HS256")


def _host(shopfront: Shopfront) -> str:
    name = shopfront.domain.removesuffix(".myshopify.com")
    return base64.b64encode(f"admin.shopify.com/store/{name}".encode()).decode().rstrip("=")


def query_signature(query: Mapping[str, str], secret: str) -> str:
    """Hex HMAC-SHA256 of the sorted query without `hmac`, as Shopify signs what it sends through a browser."""
    message = "&".join(f"{name}={value}" for name, value in sorted(query.items()) if name != "hmac")
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


@oauth.post("/oauth/access_token")
def access_token() -> ResponseReturnValue:
    """The three grants: a code, a session token, a refresh token. Form or JSON."""
    shopfront = current()
    fault = shopfront.faults.take(OPERATION)
    instead = before(fault)
    if instead is not None:
        return jsonify(instead[0]), instead[1]
    asked = request.get_json(silent=True) if request.is_json else request.form.to_dict()
    try:
        with shopfront.lock:
            shopfront.calls.append(OPERATION)
            answer = _granted(shopfront, asked if isinstance(asked, dict) else {})
    except OAuthRefused as refused:
        return jsonify(error=refused.error, error_description=refused.description), refused.status
    return _told(answer, fault)


def _told(answer: dict[str, object], fault: Fault | None) -> ResponseReturnValue:
    if fault is not None and fault.kind == "lost":
        hang_up()
    return jsonify(answer)


def _granted(shopfront: Shopfront, asked: Mapping[str, Any]) -> dict[str, object]:
    access, application = shopfront.access, shopfront.application
    application.check(str(asked.get("client_id", "")), str(asked.get("client_secret", "")))
    grant, expiring = asked.get("grant_type"), str(asked.get("expiring", "0")) == "1"
    if grant == "refresh_token":
        return access.by_refresh_token(str(asked.get("refresh_token", "")))
    if grant == EXCHANGE:
        kinds = (asked.get("subject_token_type"), asked.get("requested_token_type"))
        if kinds != (ID_TOKEN, OFFLINE):
            raise OAuthRefused("invalid_request", "The token types are not supported")
        token = str(asked.get("subject_token", ""))
        return access.by_session_token(token, application, shopfront.domain, expiring=expiring)
    if grant not in (None, "authorization_code"):
        raise OAuthRefused("unsupported_grant_type", "The grant type is not supported")
    return access.by_code(str(asked.get("code", "")), expiring=expiring)
