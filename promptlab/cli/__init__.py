"""The command line. The only part that prints, asks the terminal, or decides an exit code.

    0 done    1 a mistake or mishap    2 the study file    3 some pictures failed    4 locked    5 disk    130 Ctrl-C

A person's mistake ends in one line without a traceback. Every command says where results are and what comes next.
Nothing heavy is imported until a command needs it.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of `promptlab`."""
    from promptlab.cli.app import app
    from promptlab.errors import PromptlabError

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
