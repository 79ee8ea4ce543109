"""`unwind flower`: what the workers do, to watch."""

from __future__ import annotations

from pathlib import Path

import click

from app.cli.context import ENV_FILE, data_option, note, session
from app.cli.up import port_is_free, reachable_host
from models.settings import load_settings
from worker.flower import run


@click.command()
@click.option("--host", help="Address to listen on; FLOWER_ADDRESS in the environment.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port to listen on; FLOWER_PORT in the environment."
)
@data_option
def flower(host: str | None, port: int | None, data: Path) -> None:
    """Show the tasks of all workers, until SIGTERM; nothing can be changed through it.

    Refuses to start outside loopback without a login (FLOWER_BASIC_AUTH, user:password).
    """
    settings = load_settings(ENV_FILE, flower_address=host, flower_port=port)
    settings.require_flower()
    port_is_free("FLOWER_PORT", settings.flower_address, settings.flower_port)
    with session(data, flower_address=host, flower_port=port) as here:
        note(f"flower:   http://{reachable_host(settings.flower_address)}:{settings.flower_port}/")
        run(here.settings)
