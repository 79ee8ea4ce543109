"""The door of the pages: who may come in, what every answer says of itself, and what is said to whom it refuses."""

from __future__ import annotations

from tests.web.pages.conftest import PageShop, Visitor


def test_whoever_is_logged_in_sees_each_page(visitor: Visitor, app) -> None:
    home = visitor.get("/")
    assert home.h1
    for link in home.root.find("nav", class_="tabs").all("a"):
        assert visitor.get(link["href"]).root.has("a", aria_current="page")


def test_a_visitor_of_the_admin_sees_each_page(busy_store: PageShop) -> None:
    home = busy_store.embedded().get("/")
    assert not home.root.has("nav", class_="tabs")
    for link in home.root.find("ui-nav-menu").all("a"):
        busy_store.embedded().get(link["href"])
