"""What a WSGI server loads: `granian --interface wsgi app.wsgi:application`."""

from __future__ import annotations

from app.web import create_app
from models.settings import load_settings
from worker.logs import configure

settings = load_settings()
configure(settings)
application = create_app(settings)
