"""Schedulers (samplers) by diffusers' class name, on the model's own noise schedule."""

from __future__ import annotations

import json
from typing import Any

from promptlab.backends.quiet import quiet
from promptlab.errors import PromptlabError, nearest

__all__ = ["describe", "scheduler_named"]


def scheduler_named(name: str, own: Any) -> Any:
    """The scheduler class `name` with the configuration of `own`, the model's scheduler.

    Raises PromptlabError for a name that is no scheduler which can stand in for `own`.
    """
    known = {scheduler.__name__: scheduler for scheduler in (type(own), *own.compatibles)}
    if name not in known:
        raise PromptlabError(
            f"no scheduler {name!r} for this model: choose from {', '.join(sorted(known))}{nearest(name, known)}"
        )
    try:
        with quiet():
            return known[name].from_config(own.config)
    except Exception as error:  # each class checks the configuration in its own way
        why = str(error).strip().partition("\n")[0]
        raise PromptlabError(
            f"scheduler {name} does not fit this model ({why}); leave it to the model's own"
        ) from error


def describe(scheduler: Any) -> dict[str, Any]:
    """Class and full configuration, as plain data."""
    config = json.loads(json.dumps(dict(scheduler.config), default=str))
    return {"class": type(scheduler).__name__, "config": config}
