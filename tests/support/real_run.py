"""The real command as a process to be forked: its heavy libraries are imported once, in the fork server."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Mapping, Sequence

import diffusers
import open_clip
import transformers

from promptlab.cli import main

__all__ = ["child"]

# The lazy ones load what a run of the miniature needs.
LOADED = (open_clip, diffusers.StableDiffusionPipeline, transformers.CLIPTextModel, transformers.CLIPTokenizer)


HANGS = 180.0  # seconds; a run takes some


def child(argv: Sequence[str], env: Mapping[str, str] | None = None, out: str | None = None) -> None:
    """`promptlab ARGV`, as the console script runs it; what it says goes to the file `out`.

    If it hangs, it leaves its stacks there and ends.
    """
    os.environ.update(env or {})
    if out is not None:  # the fork server's own streams lead nowhere
        sys.stdout = sys.stderr = open(out, "a", buffering=1, encoding="utf-8")  # noqa: SIM115
        faulthandler.dump_traceback_later(HANGS, exit=True, file=sys.stderr)
    sys.argv = ["promptlab", *argv]
    main()
