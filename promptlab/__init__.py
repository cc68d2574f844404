"""promptlab: find out what the words of a text-to-image prompt really do.

`promptlab.load("NAME")` gives the results of a study as DataFrames: see `promptlab.results`.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `import promptlab` loads nothing: the store, and pandas with it, come with the first `promptlab.load`.
    if name == "load":
        return import_module("promptlab.results").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
