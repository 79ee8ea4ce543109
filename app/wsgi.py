"""What a WSGI server loads: `granian --interface wsgi app.wsgi:application`."""

from __future__ import annotations

from app.web import create_app
from models.settings import load_settings
from worker.logs import configure
from worker.telemetry import start

settings = load_settings()
configure(settings)
start(settings, "unwind-receiver")
application = create_app(settings)
