"""Whoever reads an error page, or the server's log, finds in the documents what it means."""

from __future__ import annotations

import re
from pathlib import Path

from app.pages import ERROR_PAGES
from models.settings import Settings
from tests.web.admin import Merchant

DOCUMENT = (Path(__file__).parents[2] / "docs" / "install.md").read_text()


def test_every_error_page_is_explained_with_its_status() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", DOCUMENT, flags=re.MULTILINE))
    assert rows == {code: str(page.status) for code, page in ERROR_PAGES.items()}


def test_every_address_of_the_installation_is_named(merchant: Merchant) -> None:
    rules = [rule.rule for rule in merchant.app.url_map.iter_rules() if rule.endpoint.startswith("install.")]
    assert len(rules) == 4
    for rule in rules:
        assert f"`GET {rule}`" in DOCUMENT, rule


def test_every_setting_that_it_names_is_there() -> None:
    known = {name.upper() for name in Settings.model_fields}
    named = set(re.findall(r"`((?:SHOPIFY|TOKEN|WEBHOOK|REDIS|DATABASE)_[A-Z_]+)`", DOCUMENT))
    assert named <= known, named - known
    assert {"SHOPIFY_API_KEY", "SHOPIFY_API_SECRET", "SHOPIFY_APP_URL", "TOKEN_ENCRYPTION_KEYS"} <= named
