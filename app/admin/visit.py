"""A visit of a page: whose shop it is, what may be read and asked for it, and how the page is shown.

A page reads with `visit.read(step, ...)`, in one unchanging moment of the books, and acts with `visit.ask(name, ...)`,
which is a call of the API without the socket: the same checks, refusals, idempotency keys and words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlencode

from flask import Response, render_template, request, url_for
from sqlalchemy import Connection
from werkzeug.exceptions import BadRequest

from app.admin import asking
from app.admin.asking import Said
from app.api.calls import Door as ApiDoor
from app.api.operation import JSON
from app.api.paging import read_cursor
from app.api.reading import is_key
from models.errors import NotFound
from tasks.steps import programs
from tasks.steps.tokens import Caller
from worker.doorbell import Ring

P = ParamSpec("P")
T = TypeVar("T")

KEY_FIELD = "key"  # of a form: sent twice by a nervous finger it is still one act
CSRF_FIELD = "csrf"
FRAME = frozenset(  # what Shopify's admin and App Bridge put into an address: none of it is the page's
    [
        "shop",
        "host",
        "embedded",
        "locale",
        "session",
        "timestamp",
        "hmac",
        "id_token",
        "bounced",
        "code",
        "state",
    ]
)
DONE = "done"  # of the address that an act leads back to: a name out of the page's own words


@dataclass(frozen=True, kw_only=True)
class Visit:
    """Who visits, and the parts that serve them.

    csrf: what a form of a visitor with a cookie must carry; empty inside Shopify's admin, where no cookie speaks.
    embedded: shown inside Shopify's admin, by App Bridge.
    """

    caller: Caller
    api: ApiDoor
    ids: Mapping[str, int]
    csrf: str = ""
    embedded: bool = False

    @property
    def shop_id(self) -> int:
        return self.caller.shop_id

    @property
    def domain(self) -> str:
        return self.caller.domain

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The program's settings in force, as `GET /program` shows them."""
        return self.read(programs.current)[1]

    @property
    def is_act(self) -> bool:
        """Whether something is to be done, not only looked at."""
        return request.method == "POST"

    @property
    def form(self) -> Mapping[str, str]:
        """What a form sent: each field once, without what is ours."""
        return {name: value for name, value in request.form.items() if name not in (KEY_FIELD, CSRF_FIELD)}

    @property
    def query(self) -> Mapping[str, str]:
        """The page's own parameters; empty ones count as absent, as a form of filters sends them."""
        return {name: value for name, value in request.args.items() if value and name not in FRAME}

    def read(
        self, step: Callable[Concatenate[Connection, int, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """What a step reads for this shop, in a moment of its own. Raises what it raises."""
        with self.api.engine.connect() as connection:
            moment = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with moment.begin():
                return step(moment, self.shop_id, *arguments, **named)

    def write(
        self, step: Callable[Concatenate[Connection, int, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """What a step does for this shop, in one transaction. For what no call of the API does."""
        with self.api.engine.begin() as connection:
            return step(connection, self.shop_id, *arguments, **named)

    def ask(
        self,
        name: str,
        *,
        ids: Mapping[str, int] | None = None,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        preview: bool = False,
        media: str = JSON,
    ) -> Said:
        """What the API's call of this name answers. A form's key makes a repeated act one act. media: CSV for a file."""
        return asking.ask(
            self.api,
            self.caller,
            name,
            ids={**self.ids, **(ids or {})},
            query=query or {},
            body=body,
            preview=preview,
            key=self._key,
            media=media,
        )

    @property
    def _key(self) -> str | None:
        """The form's own. Raises BadRequest for one that no form of ours carries."""
        key = request.form.get(KEY_FIELD) or None
        if key is not None and not is_key(key):
            raise BadRequest
        return key

    def found(self, name: str, **asked: Any) -> Any:
        """The document of a call that only reads. Raises NotFound for what the shop does not have."""
        said = self.ask(name, **asked)
        if said.status == 404:
            raise NotFound("page", request.path)
        return said.expected()

    def ring(self, ring: Ring) -> None:
        """Tell the worker that there is something to do; without a broker the sweep finds it."""
        if self.api.ring is not None:
            with suppress(Exception):
                self.api.ring([ring])

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """The page, whole: htmx takes its `#page` out of it."""
        text = render_template(template, visit=self, **values)
        return Response(text, status=status, content_type="text/html; charset=utf-8")

    def go(self, endpoint: str, *, done: str = "", **values: Any) -> Response:
        """On to another page after an act, by GET. `done` names the words with which that page says it."""
        return Response(status=303, headers={"Location": self.address(endpoint, done=done, **values)})

    def address(self, endpoint: str, **values: Any) -> str:
        """A page's address; absent values are left out."""
        return url_for(endpoint, **{name: value for name, value in values.items() if value not in (None, "")})

    def here(self, **changed: Any) -> str:
        """This page's address with other parameters: for filters and the next page."""
        query = {**self.query, **changed}
        kept = {name: str(value) for name, value in query.items() if value not in (None, "") and name != DONE}
        return f"{self.path}?{urlencode(kept)}" if kept else self.path

    @property
    def path(self) -> str:
        """This page's path, as browsers know it."""
        return f"{request.script_root}{request.path}"

    @property
    def cursor(self) -> int | None:
        """Where this page of a list goes on. Raises BadRequest for what no page gave out."""
        try:
            return None if "cursor" not in self.query else read_cursor(self.query["cursor"])
        except ValueError:
            raise BadRequest from None

    @property
    def done(self) -> str:
        return self.query.get(DONE, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One address of the admin. `name` is what `url_for` and `visit.go` know it by."""

    path: str
    name: str
    view: Callable[[Visit], Response]
    methods: Sequence[str] = ("GET",)


def decimal_or_none(text: str | None) -> Decimal | None:
    """An amount as somebody typed it, `1,50` too. None: nothing, or no number."""
    with suppress(ArithmeticError):
        return Decimal((text or "").strip().replace(",", "."))
    return None


def amount_typed(text: str) -> int | Decimal | str:
    """An amount of points as somebody typed it, for a call that says what is wrong with it: `1,5` is 1.5, `5.0` is 5."""
    typed = text.strip()
    found = decimal_or_none(typed)
    if found is None or not found.is_finite() or not -30 < found.adjusted() < 30:
        return typed
    return int(found) if found == found.to_integral_value() else found
