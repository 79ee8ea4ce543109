"""Integrations: tokens that are shown once, endpoints that are told of what happens, deliveries and their tries."""

from __future__ import annotations

import pytest

from tasks.gateway.outgoing import Outcome
from tasks.steps import deliveries, endpoints
from tests.web.api.conftest import PREFIX as API
from tests.web.pages.conftest import PageShop, Visitor
from tests.web.pages.reading import Answer

URL = "https://93.184.216.34/unwind"


class Receiver:
    """The other side of an endpoint: answers everything with one status."""

    def __init__(self, status: int) -> None:
        self.status = status

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> Outcome:
        return Outcome(status=self.status, error=None, milliseconds=7)


def deliver(store: PageShop, status: int) -> None:
    vault = endpoints.vault_of(store.settings)
    deliveries.deliver(store.engine, Receiver(status), vault, store.domain)


def add(visitor: Visitor, **fields: str | None) -> Answer:
    """The endpoint's page."""
    shown = visitor.submit(visitor.get("/integrations/endpoints/new"), "Add the endpoint", url=URL, **fields)
    assert shown.status == 200, shown.text
    return visitor.click(shown, "To the endpoint")


def test_a_token_is_shown_once_and_opens_the_api_until_it_is_revoked(store: PageShop) -> None:
    visitor = store.visitor()
    page = visitor.get("/integrations")
    assert "No tokens yet" in page.text
    shown = visitor.submit(page, "Make a token", name="checkout")
    token = shown.main.find("code", id="secret").text
    assert shown.main.find("button", data_copy="#secret").text == "Copy"
    headers = {"Authorization": f"Bearer {token}"}
    api = store.app.test_client()
    assert api.get(f"{API}/program", headers=headers).status_code == 200
    page = visitor.get("/integrations")
    assert "checkout" in page.text and token not in page.html
    assert visitor.get(shown.path, status=303).location.endswith("/integrations"), "a reload shows no secret"
    assert "data-confirm" in page.button("Revoke checkout")[1].attributes
    assert "The token was revoked" in visitor.submit(page, "Revoke checkout").text
    assert api.get(f"{API}/program", headers=headers).status_code == 401


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201, "nul\0"])
def test_a_token_without_a_sound_name_is_not_made(store: PageShop, name: str) -> None:
    visitor = store.visitor()
    page = visitor.submit(visitor.get("/integrations"), "Make a token", name=name)
    assert page.status == 422 and "Nothing was done" in page.text
    assert page.main.find("input", name="name").get("aria-invalid") == "true"
    assert "No tokens yet" in page.text


def test_an_endpoint_is_added_and_its_secret_is_shown_once(store: PageShop) -> None:
    visitor = store.visitor()
    fields = {"event:*": None, "event:refunded": "true", "event:cancelled": "true"}
    page = visitor.get("/integrations/endpoints/new")
    shown = visitor.submit(page, "Add the endpoint", url=URL, description="our ERP", **fields)
    assert shown.main.find("code", id="secret").text.startswith("whsec_")
    again = visitor.submit(page, "Add the endpoint", url=URL, description="our ERP", **fields)
    assert "was shown before" in again.text, "sent twice it is one endpoint"
    listed = visitor.get("/integrations")
    assert [row[:2] for row in listed.rows] == [[f"{URL} our ERP", "Active"]]
    page = visitor.get(listed.link(URL))
    ticked = [
        each["name"] for each in page.main.all("input", type="checkbox") if "checked" in each.attributes
    ]
    assert ticked == ["event:refunded", "event:cancelled"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"url": "http://10.0.0.1/", "description": "kept"}, "url"),
        ({"url": "", "description": "kept"}, "url"),
        ({"url": URL, "description": "a\nb"}, "description"),
    ],
    ids=["inside the network", "no address", "two lines"],
)
def test_an_endpoint_that_cannot_be_is_refused_beside_its_field(
    store: PageShop, fields: dict[str, str], field: str
) -> None:
    visitor = store.visitor()
    page = visitor.submit(visitor.get("/integrations/endpoints/new"), "Add the endpoint", **fields)
    assert page.status == 422
    assert page.main.find("input", name=field).get("aria-invalid") == "true"
    assert page.main.find("input", name="url")["value"] == fields["url"]


def test_without_an_event_an_endpoint_is_refused(store: PageShop) -> None:
    visitor = store.visitor()
    page = visitor.get("/integrations/endpoints/new")
    page = visitor.submit(page, "Add the endpoint", url=URL, **{"event:*": None})
    assert page.status == 422 and "must not be empty" in page.main.find(id="events-wrong").text


def test_an_endpoint_is_changed_paused_enabled_and_removed(store: PageShop) -> None:
    visitor = store.visitor()
    page = add(visitor)
    page = visitor.submit(
        page, "Save", description="our CRM", **{"event:*": None, "event:tier.changed": "true"}
    )
    assert "Saved." in page.text and page.main.find("input", name="description")["value"] == "our CRM"
    page = visitor.submit(page, "Pause")
    assert "It was paused by hand" in page.text
    page = visitor.submit(page, "Enable")
    assert "What waited is being sent" in page.text and "Nothing is sent" not in page.text
    assert "data-confirm" in page.button("Remove")[1].attributes
    address = page.path.partition("?")[0]
    page = visitor.submit(page, "Remove")
    assert "The endpoint was removed" in page.text and "No endpoints yet" in page.text
    visitor.get(address, status=404)


def test_a_new_secret_is_shown_once_and_the_old_one_signs_on_for_a_day(store: PageShop) -> None:
    visitor = store.visitor()
    page = add(visitor)
    shown = visitor.submit(page, "New secret")
    assert shown.main.find("code", id="secret").text.startswith("whsec_")
    assert "Old secret Signs beside the new one until" in visitor.click(shown, "To the endpoint").text


def test_a_test_shows_among_the_deliveries_with_its_answer_and_is_sent_again(store: PageShop) -> None:
    visitor = store.visitor()
    page = visitor.submit(add(visitor), "Send a test")
    assert "is on its way" in page.text and "ping" in page.rows[0][0] and "none yet" in page.rows[0][2]
    deliver(store, 500)
    page = visitor.get(page.path.partition("?")[0])
    assert "answered 500" in page.rows[0][2] and "Due, or to be tried again" in page.rows[0][1]
    assert "Every try has failed since" in page.text
    [button] = [each for each in page.main.all("button") if each.text == "Send again"]
    page = visitor.submit(page, button["aria-label"])
    assert "It is sent again" in page.text
    deliver(store, 204)
    page = visitor.get(page.path.partition("?")[0])
    assert "Delivered" in page.rows[0][1] and page.rows[0][2].startswith("2: answered 204")
    page = visitor.submit(page, "Show", status="failed")
    assert "Nothing in this state" in page.text
    visitor.get(f"{page.path.partition('?')[0]}?status=odd", status=400)


def test_a_refused_act_says_why_on_the_endpoints_page(store: PageShop) -> None:
    visitor = store.visitor()
    page = add(visitor)
    visitor.submit(page, "Pause")
    page = visitor.submit(page, "Send a test")
    assert page.status == 409 and "the endpoint is paused" in page.text


def test_another_shop_finds_neither_tokens_nor_endpoints(store: PageShop, foreign: Visitor) -> None:
    visitor = store.visitor()
    visitor.submit(visitor.get("/integrations"), "Make a token", name="checkout")
    page = add(visitor)
    [token] = store.run("select id from api_tokens where shop_id = :shop_id")
    [endpoint] = store.run("select id from endpoints where shop_id = :shop_id")
    visitor.submit(page, "Send a test")
    [delivery] = store.run("select id from deliveries where shop_id = :shop_id")
    at = f"/integrations/endpoints/{endpoint.id}"
    foreign.get(at, status=404)
    acts = ["", "/pause", "/enable", "/test", "/rotate", "/remove", f"/deliveries/{delivery.id}/resend"]
    for path in (*(at + act for act in acts), f"/integrations/tokens/{token.id}/revoke"):
        assert foreign.post(path, {"url": URL, "event:*": "true"}).status == 404, path
    assert store.run("select id from api_tokens where shop_id = :shop_id") == [token]
    [left] = store.run("select state, url, old_secret from endpoints where shop_id = :shop_id")
    assert (left.state, left.url, left.old_secret) == ("active", URL, None)


def test_forms_that_were_not_opened_here_change_nothing(store: PageShop) -> None:
    visitor = store.visitor()
    add(visitor)
    [endpoint] = store.run("select id from endpoints where shop_id = :shop_id")
    at = f"/integrations/endpoints/{endpoint.id}"
    for path in (f"{at}/remove", f"{at}/pause", "/integrations/tokens", "/integrations/endpoints/new"):
        assert visitor.post(path, {"name": "x", "url": URL}, csrf=False).status == 403
    [left] = store.run("select state from endpoints where shop_id = :shop_id")
    assert left.state == "active"
    assert not store.run("select id from api_tokens where shop_id = :shop_id")


def test_the_api_is_described_where_the_page_says(store: PageShop) -> None:
    page = store.visitor().get("/integrations")
    for words in ("Reference, to be read", "OpenAPI document, for tools"):
        assert store.app.test_client().get(page.link(words)).status_code == 200
