"""Settings: what earns, what comes back, what is taken away. A change is shown before it becomes a new version (R17)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Response

from app.admin.asking import Said
from app.admin.program import form as forms
from app.admin.program.changes import spoken, summary, told, words_of
from app.admin.program.form import Form, Proposal
from app.admin.program.settings import SECTIONS, Section
from app.admin.visit import Page, Visit
from app.api.paging import cursor_text
from app.api.program import as_stored
from models.errors import Refused
from tasks.steps import programs

DONE = {"saved": "Saved. The new version is in force from now on."}
ACT, ADD, CHANGE, CONFIRM = (
    "act",
    "add",
    "change",
    "confirm",
)  # what a button of a form asks for; without: a review
SHOWN_OF_THEIRS = 20  # versions that somebody else made meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The settings in force."""

    version: int
    settings: Mapping[str, Any]


def show(visit: Visit) -> Response:
    """All sections, each with what is set."""
    standing = standing_of(visit)
    full = forms.with_optional(standing.settings)
    return visit.page(
        "program.html", full=full, at=forms.at, spoken=spoken, summary=summary, **common(standing)
    )


def edit(section: Section) -> Callable[[Visit], Response]:
    """The page of a section: its form, then what would change, then the new version."""

    def view(visit: Visit) -> Response:
        standing = standing_of(visit)
        if not visit.is_act:
            return shown(visit, standing, forms.form_of(section, standing.version, standing.settings))
        form, act = forms.typed(section, visit.form), visit.form.get(ACT)
        if act == ADD and section.rows is not None:
            longer = forms.with_new_row(form)
            return shown(visit, standing, longer, focus=f"{longer.row_names[-1]}.name")
        if act == CHANGE:
            return shown(visit, standing, form)
        return proposed(visit, standing, form, confirmed=act == CONFIRM)

    return view


def proposed(visit: Visit, standing: Standing, form: Form, *, confirmed: bool) -> Response:
    """What would change, or why it cannot; once that was seen, the new version."""
    wanted = forms.proposal(form, standing.settings)
    said = visit.ask("put_program", body=wanted.document, preview=True)
    if not said.ok:
        faults = faults_of(said, wanted)
        problems = [(*forms.labelled(form, name), reason) for name, reason in faults.items()]
        return shown(visit, standing, form, status=said.status, said=said, faults=faults, problems=problems)
    changes = told(forms.differences(standing.settings, said.document), said.document)
    if not changes and confirmed:  # sent twice, or by somebody else meanwhile: it is as it was asked to be
        return saved(visit, form)
    if not changes:
        return shown(visit, standing, forms.after(form, standing.version), unchanged=True)
    if form.version != standing.version:
        return conflict(visit, standing, form)
    if not confirmed:
        return visit.page("program_review.html", form=form, changes=changes, **common(standing))
    try:
        visit.write(programs.put, as_stored(said.document, ""), after=form.version)
    except Refused:
        return conflict(visit, standing_of(visit), form)
    return saved(visit, form)


def saved(visit: Visit, form: Form) -> Response:
    return visit.go(f"program_{form.section.name}", done="saved")


def conflict(visit: Visit, standing: Standing, form: Form) -> Response:
    """Somebody else made a version meanwhile: theirs is shown, what was typed stays, and can be saved after it."""
    versions = visit.read(programs.history, limit=SHOWN_OF_THEIRS).rows
    later = [row for row in versions if row["version"] > form.version]
    theirs = [change for row in reversed(later) for change in told(row["changes"], standing.settings)]
    return shown(
        visit, standing, forms.after(form, standing.version), status=409, conflict=True, theirs=theirs
    )


def shown(visit: Visit, standing: Standing, form: Form, *, status: int = 200, **values: Any) -> Response:
    return visit.page("program_section.html", status=status, form=form, **common(standing), **values)


def history(visit: Visit) -> Response:
    """Every version: since when it is in force, and what it changed."""
    standing = standing_of(visit)
    page = visit.read(programs.history, cursor=visit.cursor)
    versions = [{**row, "changes": told(row["changes"], standing.settings)} for row in page.rows]
    cursor = cursor_text(page.cursor)
    return visit.page("program_history.html", versions=versions, cursor=cursor, **common(standing))


def faults_of(said: Said, wanted: Proposal) -> Mapping[str, str]:
    """The form's fields that are wrong, and why."""
    faults = [said.details, *said.details.get("others", ())] if "field" in said.details else []
    return {wanted.field(fault["field"]): fault["reason"] for fault in faults}


def standing_of(visit: Visit) -> Standing:
    version, settings = visit.read(programs.current)
    return Standing(version=version, settings=settings)


def common(standing: Standing) -> Mapping[str, Any]:
    """What the templates of this noun share."""
    return {
        "standing": standing,
        "sections": SECTIONS,
        "words": words_of(standing.settings),
        "done_words": DONE,
    }


PAGES: Sequence[Page] = (
    Page(path="/settings", name="program", view=show),
    Page(path="/settings/history", name="program_history", view=history),
    *(
        Page(
            path=f"/settings/{section.name}",
            name=f"program_{section.name}",
            view=edit(section),
            methods=("GET", "POST"),
        )
        for section in SECTIONS
    ),
)
