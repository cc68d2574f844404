"""Keys stay out of every file: values of environment variables that look like keys are replaced beforehand.

A secret is the value of a variable whose name ends in KEY, TOKEN, SECRET, PASSWORD, PAT or CREDENTIALS, if it has 12
characters or more and no blank. Shorter values would hit innocent words of a prompt.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

__all__ = ["redact", "secrets"]

_KEY_NAME = re.compile(r"(?:^|_)(?:API)?(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PAT|CREDENTIALS?)(?:_ID)?$", re.IGNORECASE)


def secrets(env: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Every secret of `env` (else of the process), the longest first."""
    env = os.environ if env is None else env
    found = {v for k, v in env.items() if _KEY_NAME.search(k) and len(v) >= 12 and not any(c.isspace() for c in v)}
    return tuple(sorted(found, key=len, reverse=True))


def redact(text: str, hidden: Iterable[str] | None = None) -> str:
    """`text` with every secret of the process (or every one in `hidden`) replaced by `[redacted]`."""
    for secret in secrets() if hidden is None else hidden:
        text = text.replace(secret, "[redacted]")
    return text
