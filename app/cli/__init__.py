"""The terminal: `unwind COMMAND`. Each command lives in a module of its own, imported only when it is called.

Exit codes: 0 done, 1 found something wrong, 2 wrong usage or a wrong setting.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import version

import click

from models.errors import InvalidSetting, ShopifyUnreachable, UnwindError

COMMANDS = {
    "demo": "app.cli.demo:demo",
    "up": "app.cli.up:up",
    "flower": "app.cli.flower:flower",
    "shop": "app.cli.shop:shop",
    "token": "app.cli.shop:token",
    "admin": "app.cli.admin:admin",
    "verify": "app.cli.verify:verify",
    "replay": "app.cli.replay:replay",
    "reconcile": "app.cli.reconcile:reconcile",
    "failed": "app.cli.failed:failed",
    "outbox": "app.cli.outbox:outbox",
    "endpoints": "app.cli.endpoints:endpoints",
    "preview": "app.cli.preview:preview",
    "order": "app.cli.order:order",
    "undo": "app.cli.undo:undo",
    "redemption": "app.cli.redemption:redemption",
    "reverse": "app.cli.reverse:reverse",
    "activity": "app.cli.activity:activity",
    "trace": "app.cli.activity:trace",
    "follow": "app.cli.follow:follow",
    "report": "app.cli.report:report",
    "import": "app.cli.import_file:import_",
    "privacy": "app.cli.privacy:privacy",
    "bench": "app.cli.bench:bench",
    "db": "app.cli.db:db",
    "settings": "app.cli.settings:settings",
}
SUMMARIES = {
    "demo": "Show the main job: a pretend store, refunds, and what came of them.",
    "up": "Run the receiver, the worker and the scheduler for a real store.",
    "flower": "Watch the tasks of all workers; needs a login outside this machine.",
    "shop": "Stores: add one without Shopify's install page, list, remove, rotate the tokens' keys.",
    "token": "Create a token for the JSON API.",
    "admin": "The pages in a browser: print a link that logs in once.",
    "verify": "Recompute every balance from the record and print differences.",
    "replay": "Run recorded events again (must change nothing).",
    "reconcile": "Ask Shopify for a store's orders and repair what was missed.",
    "failed": "Events that could not be processed: list, show, retry, discard.",
    "outbox": "What is to be done at Shopify, and what could not be: list, retry.",
    "endpoints": "Webhooks out: a store's endpoints and their deliveries.",
    "preview": "What a refund would do; changes nothing.",
    "order": "One order: show, cancel, refund.",
    "undo": "Take back what a refund, a cancellation, a void or a reversal did.",
    "redemption": "What was spent on a reward: show, cancel.",
    "reverse": "Give points of a redemption back, whole or in part.",
    "activity": "What happened at a store, newest first, in words.",
    "trace": "Why an order's points are what they are.",
    "follow": "What became of a webhook: from its id to the rows of the ledger.",
    "report": "What a program owes, and what it let go.",
    "import": "Take in what customers had in another program, from a CSV file.",
    "privacy": "What customers asked of their data: list, export.",
    "bench": "Measure this machine.",
    "db": "The database's schema.",
    "settings": "Every setting, with its value and a help line.",
}
DONE, FOUND_WRONG, WRONG_USAGE = 0, 1, 2
INTERRUPTED = 130


class Commands(click.Group):
    """The table above, loaded one command at a time; `unwind --help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in COMMANDS])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("unwind"), prog_name="unwind")
def cli() -> None:
    """Keeps a Shopify store's loyalty program right when orders come apart."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status; an error of ours is one line, never a stack of calls."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit status of a command. A command returns None (done) or a status."""
    try:
        status = cli.main(arguments, prog_name="unwind", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except UnwindError as error:
        click.echo(f"unwind: {in_words(error)}", err=True)
        return WRONG_USAGE if isinstance(error, InvalidSetting) else FOUND_WRONG
    return status if isinstance(status, int) else DONE


def in_words(error: UnwindError) -> str:
    """An error of ours for whoever called: who does not answer, when it is not us."""
    if isinstance(error, ShopifyUnreachable):
        return f"Shopify does not answer ({error}); nothing is lost, run it again later"
    return str(error)
