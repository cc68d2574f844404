"""What a study says of its probes: that there are such, that they take the options given, and measure what is asked.

Probes that ship are asked themselves, which opens no model and imports no torch. A probe of one's own, by its dotted
path, may import anything: it is asked when the study runs, and no contrast can name it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from promptlab import plugins
from promptlab.errors import PromptlabError
from promptlab.mistakes import Mistake, allowed
from promptlab.yaml_strict import Route

if TYPE_CHECKING:
    from promptlab.study import ProbeUse, Study

__all__ = ["check_probes"]


def check_probes(study: Study) -> None:
    """Raise Mistake, with a route from the top of the study, for the first probe, option or measure that is not."""
    names = [use.name for use in study.probes]
    measures: dict[str, tuple[str, ...]] = {}
    for i, use in enumerate(study.probes):
        if use.name in names[:i]:
            raise Mistake(("probes", i), f"probe {use.name!r} stands twice")
        if "." not in use.name:
            measures[use.name] = _measures(use, ("probes", i))
    asked: list[tuple[Route, str]] = [(("contrasts", i), one.measure) for i, one in enumerate(study.contrasts)]
    asked += [(("published", i), one.measure) for i, one in enumerate(study.published) if one.measure is not None]
    for route, what in asked:
        probe, measure = what.split(".", 1)
        if probe not in names:
            message = f"the study does not use the probe {probe!r}{allowed(probe, names)}"
            raise Mistake((*route, "measure"), message)
        if measure not in measures[probe]:
            message = f"the probe {probe!r} has no measure {measure!r}{allowed(measure, measures[probe])}"
            raise Mistake((*route, "measure"), message)


def _measures(use: ProbeUse, route: Route) -> tuple[str, ...]:
    """Names of what a probe that ships measures."""
    known = plugins.names("probe")
    if use.name not in known:
        message = f"no probe is called {use.name!r}{allowed(use.name, known)}"
        raise Mistake((*route, "name") if use.options else route, message)
    options = plugins.parameters("probe", use.name)
    for option in use.options:
        if option not in options:
            message = f"the probe {use.name!r} has no option {option!r}{allowed(option, options)}"
            raise Mistake((*route, option), message, key=True)
    try:
        return tuple(measure.name for measure in plugins.load("probe", use.name, **use.options).measures)
    except PromptlabError as error:
        raise Mistake(route, f"the probe {use.name!r}: {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise Mistake(route, f"the probe {use.name!r} cannot take these options ({error})") from None
