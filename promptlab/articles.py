"""`a` or `an`, by how the first word sounds.

Spelling decides, with the exceptions that matter for pictures: an hour, a uniform, an 8-bit car, an X-ray, a one-eyed
dog. Where it errs, a study says `article: an`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["article"]

_SAY_A = re.compile(r"uni(?!n|m|d)|us[eau]|ut[io]|eu|ew|one(?![a-z])|once|ub|uk|ur[aio]|ufo")
_SAY_AN = re.compile(r"[aeiou]|hour|honest|honou?r|heir|8|1[18](?!\d)")


@lru_cache(maxsize=4096)
def article(words: str) -> str:
    """`a` or `an` before these words; `a` where they hold no letter or digit."""
    start = re.search(r"\w+", words)
    if not start:
        return "a"
    word = start[0]
    if re.fullmatch("[A-Z]|[B-DF-HJ-NP-TV-Z]{2,4}", word):
        return "an" if word[0] in "AEFHILMNORSX" else "a"
    plain = unicodedata.normalize("NFD", word + words[start.end() :][:1]).lower()
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return "an" if _SAY_AN.match(plain) and not _SAY_A.match(plain) else "a"
