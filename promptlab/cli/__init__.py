"""The command line. The only part that prints, asks the terminal, or decides an exit code.

    0 done    1 a mistake or mishap    2 the study file    3 some images failed    4 locked    5 disk    130 Ctrl-C

A person's mistake ends in one line without a traceback. Every command says where results are and what comes next.
Nothing heavy is imported until a command needs it.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from promptlab import __version__
from promptlab.cli import exchange, maintain, models, results, study
from promptlab.cli.terminal import console
from promptlab.errors import PromptlabError

__all__ = ["app", "main"]

COMMANDS: dict[str, dict[str, Any]] = {
    "Study": {
        "init": study.init,
        "validate": study.validate,
        "plan": study.plan,
        "run": study.run,
        "score": study.score,
        "status": study.status,
        "claims": study.claims,
    },
    "Look": {
        "list": results.list_,
        "table": results.table,
        "report": results.report,
        "dashboard": results.dashboard,
        "attention": results.attention,
        "lint": models.lint,
        "geometry": models.geometry,
        "models": models.models,
    },
    "Hand on": {
        "export": results.export,
        "import": exchange.import_,
        "import-prompts": exchange.import_prompts,
        "import-ratings": exchange.import_ratings,
        "reproduce": exchange.reproduce,
    },
    "Maintain": {
        "doctor": maintain.doctor,
        "rebuild": maintain.rebuild,
        "publish": maintain.publish,
        "passport": maintain.passport,
        "simulate": maintain.simulate,
        "bench": maintain.bench,
    },
}
"""Commands under the headings of `promptlab --help`."""


class _Grouped(TyperGroup):
    """Lists commands under their panels; typer itself does so only with rich markup, which would eat [brackets]."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section a panel."""
        panels: dict[str, list[Any]] = {}
        for command in self.commands.values():
            if not command.hidden:
                panels.setdefault(getattr(command, "rich_help_panel", None) or "Commands", []).append(command)
        room = formatter.width - 6 - max(len(command.name or "") for command in self.commands.values())
        for panel, commands in panels.items():
            with formatter.section(panel):
                formatter.write_dl([(command.name or "", command.get_short_help_str(room)) for command in commands])


app = typer.Typer(
    name="promptlab",
    cls=_Grouped,
    help="Find out what the words of a text-to-image prompt really do.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"promptlab {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="A probe, backend or finding of your own; may be repeated."),
    ] = None,
) -> None:
    if plugin:
        from promptlab.plugins import name_modules

        name_modules(plugin)


for _panel, _commands in COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(maintain.miniature, name="miniature", rich_help_panel="Maintain")
app.command("schema", hidden=True)(study.schema)


def main() -> None:
    """Entry point of `promptlab`."""
    try:
        code = app(standalone_mode=False) or 0
        if code == 130:  # typer makes this of Ctrl-C, and says nothing
            _interrupted()
        sys.exit(code)
    except PromptlabError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _interrupted()
    except Exception as error:
        # typer brings its own click or uses the installed one: their exceptions are told by what they can do
        if type(error).__name__ == "Abort":
            _interrupted()
        if type(error).__name__ == "Exit":
            sys.exit(getattr(error, "exit_code", 0))
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            sys.exit(error.exit_code)
        raise


def _interrupted() -> None:
    _fail("interrupted: what is finished is kept; the same command goes on from here", 130)


def _fail(message: str, code: int) -> None:
    print(f"promptlab: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(code)
