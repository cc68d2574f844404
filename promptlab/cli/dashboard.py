"""The command that opens the dashboard: Streamlit on this machine alone, on the store of a home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from promptlab.cli.options import HomeOption
from promptlab.cli.say import console

__all__ = ["dashboard"]


def dashboard(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open a browser at it.")] = True,
) -> None:
    """Look at the results in a browser: pictures, curves, outcomes, on this machine alone. Ctrl-C ends it."""
    import tempfile

    from promptlab.demo import dashboard_script, open_demo
    from promptlab.home import find_home

    where = find_home(home)
    script = dashboard_script()
    if home is None and not where.database.is_file():
        demo = open_demo(Path(tempfile.mkdtemp(prefix="promptlab-demo-")))
        if demo is not None:
            console.print(f"nothing was run at {where.path} yet, so this is the demo. Yours: promptlab run STUDY")
            where = demo.home
    console.print(f"http://127.0.0.1:{port} shows {where.path}; Ctrl-C ends it", highlight=False)
    argv = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)]
    argv += ["--server.headless", "false" if browser else "true"]
    done = subprocess.run(argv, env={**os.environ, "PROMPTLAB_HOME": str(where.path.resolve())}, check=False)
    if done.returncode not in (0, 130, -2):
        raise typer.Exit(1)
