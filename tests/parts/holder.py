"""A command in a process of its own that holds the parts until its input ends. `python holder.py '{"data": ...}'`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from models.settings import load_settings
from worker.embedded import parts

given = json.loads(sys.argv[1])
if "become_uid" in given:
    "loaded now, while our own library can be read".encode("idna")
    os.setgroups([])
    os.setgid(given["become_gid"])
    os.setuid(given["become_uid"])
with parts(
    load_settings(database_url=given.get("database_url")),
    Path(given["data"]),
    command=given.get("command", "unwind test"),
    lasting=given.get("lasting", False),
    shelter=Path(given["shelter"]),
    say=lambda line: print(line, file=sys.stderr, flush=True),
) as found:
    about = {"database_url": found.database_url, "redis_url": found.redis_url, "describe": found.describe()}
    print(json.dumps(about), flush=True)
    sys.stdin.read()
print("left", flush=True)
