"""The commands of the store and of trust: doctor, rebuild, publish, passport."""

from __future__ import annotations

from typing import Annotated

import typer

from promptlab.cli.options import HomeOption
from promptlab.cli.say import console, frame_table

__all__ = ["doctor", "passport", "publish", "rebuild"]


def doctor(home: HomeOption = None) -> None:
    """Look for what is wrong with journals, pictures and database; changes nothing."""
    from promptlab.store import Store

    findings = Store(home).doctor()
    for finding in findings:
        console.print(str(finding))
    grave = [finding for finding in findings if not finding.harmless]
    console.print("nothing is wrong" if not grave else f"{len(grave)} findings. Next: promptlab rebuild")
    raise typer.Exit(1 if grave else 0)


def rebuild(home: HomeOption = None) -> None:
    """Set aside what is damaged, say what is lost, and build the database anew from the journals."""
    from promptlab.store import Store

    console.print(str(Store(home).rebuild()))


def publish(home: HomeOption = None) -> None:
    """Build the database from the journals."""
    from promptlab.store import Store

    console.print(f"published {Store(home).publish()}")


def passport(
    probes: Annotated[list[str] | None, typer.Argument(help="Probes; all if none is named.")] = None,
    n: Annotated[int, typer.Option(min=20, help="Rendered pictures a cell.")] = 400,
    home: HomeOption = None,
) -> None:
    """Measure on pictures of known truth how far each probe can be trusted."""
    from promptlab import plugins
    from promptlab.passports import passports
    from promptlab.store import Store
    from promptlab.tables import passports as table

    store = Store(home)
    with store.open_run("passports") as run:
        for name in probes or plugins.names("probe"):
            rows = passports(plugins.load("probe", name), n)
            run.add(*rows)
            console.print(f"{name}: {len(rows)} passports")
    store.publish()
    shown = table(store)[["probe", "family", "n", "sensitivity", "specificity", "youden", "auc"]]
    console.print(frame_table(shown))
    console.print("Below Youden J 0.5 a probe reports no rate. Intervals are in table passport.")
