"""What the pages serve of others is what its package holds: versions, licences and sums as VENDORED.md lists them."""

from __future__ import annotations

import hashlib
import re

from app.admin.door import STATIC

OURS = {"admin.css", "admin.js", "icon.svg", "VENDORED.md"}
ROW = re.compile(
    r"^\| `([^`]+)` \| \S+ [\d.]+ \| `[^`]+` \| \[[^]]+\]\(([^)]+)\) \| `([0-9a-f]{64})` \|$", re.M
)


def test_every_file_of_others_is_listed_with_its_licence_and_unchanged() -> None:
    rows = ROW.findall((STATIC / "VENDORED.md").read_text())
    named = {name for name, licence, _ in rows} | {licence for _, licence, _ in rows}
    assert {path.name for path in STATIC.iterdir()} == named | OURS
    for name, _, digest in rows:
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest, name
