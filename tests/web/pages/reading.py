"""A page as whoever reads it finds it: its words, headings, links and forms. Every page that is read here is sound."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from html.parser import HTMLParser
from itertools import pairwise

from werkzeug.test import TestResponse

VOID = frozenset(["meta", "link", "input", "img", "br", "hr", "source"])
HEADINGS = ("h1", "h2", "h3", "h4")
BLOCKS = frozenset(
    ["p", "div", "li", "td", "th", "dt", "dd", "tr", "section", "label", "option", "button", *HEADINGS]
)
EVENT = re.compile(r"on[a-z]+")


@dataclass
class Node:
    """An element and what is in it. `page.root.find("a", href="/admin/")`."""

    tag: str
    attributes: dict[str, str]
    children: list[Node | str] = field(default_factory=list)

    def all(self, tag: str | None = None, **wanted: str) -> Iterator[Node]:
        """Every element below of this kind, with these attributes (`class_`, `aria_label` for their like)."""
        names = {name.rstrip("_").replace("_", "-"): value for name, value in wanted.items()}
        for child in self.children:
            if isinstance(child, Node):
                if (tag is None or child.tag == tag) and names.items() <= child.attributes.items():
                    yield child
                yield from child.all(tag, **wanted)

    def find(self, tag: str | None = None, **wanted: str) -> Node:
        """The first of them. An AssertionError names what there is instead."""
        found = next(self.all(tag, **wanted), None)
        assert found is not None, f"no {tag} {wanted} in: {self.text}"
        return found

    def has(self, tag: str | None = None, **wanted: str) -> bool:
        return next(self.all(tag, **wanted), None) is not None

    @property
    def text(self) -> str:
        """What is to be read, spaces made one."""
        return " ".join(self._text().split())

    def _text(self) -> str:
        inside = "".join(child if isinstance(child, str) else child._text() for child in self.children)
        if self.tag in ("script", "style", "title"):
            return ""
        return f" {inside} " if self.tag in BLOCKS else inside

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    def get(self, name: str, default: str = "") -> str:
        return self.attributes.get(name, default)


class _Builder(HTMLParser):
    """Builds the tree, and refuses one that browsers would have to mend."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice: {attrs}"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}> in: {self.open[-1].text}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


@dataclass
class Form:
    """A form as it stands: where it goes and what it would send if nobody changed anything."""

    node: Node

    @property
    def action(self) -> str:
        return self.node.get("action")

    @property
    def method(self) -> str:
        return self.node.get("method", "get").upper()

    @property
    def buttons(self) -> list[Node]:
        return list(self.node.all("button"))

    def values(self, button: Node | None = None) -> dict[str, str]:
        sent = {}
        for each in self.node.all("input"):
            kind = each.get("type", "text")
            if kind not in ("checkbox", "radio") or "checked" in each.attributes:
                sent[each.get("name")] = each.get("value", "on" if kind == "checkbox" else "")
        for each in self.node.all("textarea"):
            sent[each["name"]] = "".join(child for child in each.children if isinstance(child, str))
        for each in self.node.all("select"):
            options = list(each.all("option"))
            chosen = next((o for o in options if "selected" in o.attributes), options[0])
            sent[each["name"]] = chosen.get("value", chosen.text)
        if button is not None and "name" in button.attributes:
            sent[button["name"]] = button.get("value")
        sent.pop("", None)
        return sent


@dataclass
class Answer:
    """What a request was answered."""

    response: TestResponse
    path: str

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def html(self) -> str:
        return self.response.get_data(as_text=True)

    @property
    def location(self) -> str:
        return self.response.headers["Location"]

    @cached_property
    def root(self) -> Node:
        builder = _Builder()
        builder.feed(self.html)
        builder.close()
        assert builder.open == [builder.root], f"<{builder.open[-1].tag}> is not closed"
        return builder.root

    @property
    def main(self) -> Node:
        return self.root.find("main")

    @property
    def text(self) -> str:
        return self.main.text

    @property
    def h1(self) -> str:
        return self.root.find("h1").text

    @property
    def forms(self) -> list[Form]:
        return [Form(node) for node in self.main.all("form")]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of the page's tables, a list a row."""
        body = [row for table in self.main.all("tbody") for row in table.all("tr")]
        return [[cell.text for cell in row.children if isinstance(cell, Node)] for row in body]

    def button(self, words: str) -> tuple[Form, Node]:
        """The button of these words, by what a screen reader says of it, and its form."""
        for form in self.forms:
            for button in form.buttons:
                if words in (button.text, button.get("aria-label")):
                    return form, button
        raise AssertionError(f"no button {words!r} in: {self.text}")

    def link(self, words: str) -> str:
        """Where the link of these words leads."""
        for link in self.main.all("a"):
            if words in (link.text, link.get("aria-label")):
                return link["href"]
        raise AssertionError(f"no link {words!r} in: {self.text}")


def check_sound(page: Answer) -> None:
    """What holds of every page: it can be read in order, heard, typed at, and runs nothing of its own."""
    root = page.root
    nodes = list(root.all())
    assert root.find("html").get("lang") and root.has("title")
    assert len(list(root.all("h1"))) == 1, "one h1 a page"
    levels = [int(node.tag[1]) for node in root.find("main").all() if node.tag in HEADINGS]
    assert all(b - a <= 1 for a, b in pairwise(levels)), f"headings skip a level: {levels}"
    twice = [id for id, n in Counter(n["id"] for n in nodes if "id" in n.attributes).items() if n > 1]
    assert not twice, f"ids that are there twice: {twice}"
    for node in nodes:
        assert "style" not in node.attributes, f"the policy refuses style= on <{node.tag}>"
        assert not any(EVENT.fullmatch(name) for name in node.attributes), f"a script on <{node.tag}>"
        assert node.tag != "style" and (node.tag != "script" or "src" in node.attributes)
        assert node.tag != "img" or "alt" in node.attributes
        assert node.tag != "table" or node.has("caption"), "a table without a caption"
        assert node.tag not in ("a", "button") or node.text or node.get("aria-label"), f"{node} says nothing"
    _check_labels(root, nodes)


def _check_labels(root: Node, nodes: list[Node]) -> None:
    ids = {node.get("id") for node in nodes}
    labelled = {node.get("for") for node in root.all("label")}
    for node in nodes:
        if node.tag in ("select", "textarea") or (node.tag == "input" and node.get("type") != "hidden"):
            named = node.get("id") in labelled or node.get("aria-label") or node.get("aria-labelledby")
            assert named, f"<{node.tag} name={node.get('name')}> has no label"
        for name in ("aria-describedby", "aria-labelledby", "aria-controls"):
            for id in node.get(name).split():
                assert id in ids, f"{name}={id} names nothing"
