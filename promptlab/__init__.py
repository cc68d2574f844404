"""promptlab: find out what the words of a text-to-image prompt really do.

    from promptlab import Store, load, load_study, run_study

    study = load_study("studies/attribute_binding.yaml")
    run_study(study, Store())               # makes and scores what is missing
    results = load(study.name)              # tables for notebooks: see `Results`
    results.effects()

Everything a script needs is listed in `__all__`. Each name is imported when it is first used, so `import promptlab`
loads no other library. Probes, backends and findings of your own: see `promptlab.plugins`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptlab.analyzer.probes import Probe, Sample
    from promptlab.errors import PromptlabError
    from promptlab.generator.backends import Backend, Job, Made
    from promptlab.records import Cell, Image, Measure, Score
    from promptlab.results import Results, load
    from promptlab.run import Summary, run_study
    from promptlab.run.options import RunOptions
    from promptlab.run.plan import Plan, plan_study
    from promptlab.store import Store
    from promptlab.study.study import Contrast, Study, load_study, parse_study

__all__ = [
    "Backend",
    "Cell",
    "Contrast",
    "Image",
    "Job",
    "Made",
    "Measure",
    "Plan",
    "Probe",
    "PromptlabError",
    "Results",
    "RunOptions",
    "Sample",
    "Score",
    "Store",
    "Study",
    "Summary",
    "load",
    "load_study",
    "parse_study",
    "plan_study",
    "run_study",
]

__version__ = "0.1.0"

_NAMES = {
    "promptlab.analyzer.probes": ("Probe", "Sample"),
    "promptlab.errors": ("PromptlabError",),
    "promptlab.generator.backends": ("Backend", "Job", "Made"),
    "promptlab.records": ("Cell", "Image", "Measure", "Score"),
    "promptlab.results": ("Results", "load"),
    "promptlab.run": ("RunOptions", "Summary", "run_study"),
    "promptlab.run.plan": ("Plan", "plan_study"),
    "promptlab.store": ("Store",),
    "promptlab.study": ("Contrast", "Study", "load_study", "parse_study"),
}
"""Where each public name is defined. A new one also goes into `__all__` and the imports above."""


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:  # a type checker then reports a name that does not exist

    def __getattr__(name: str) -> object:
        for module, names in _NAMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(module), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
