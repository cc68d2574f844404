"""A prompt of two coloured things, and what the scene parser would find of it."""

from __future__ import annotations

import numpy as np

from promptlab.miniature.parser import Found
from promptlab.records import Binding, Phrase, Prompt

PROMPT = Prompt(
    "a red cup and a blue chair",
    (
        Phrase("first", "a red cup", 0, 9, "object"),
        Phrase("first.colour", "red", 2, 5, "attribute"),
        Phrase("second", "a blue chair", 14, 26, "object"),
        Phrase("second.colour", "blue", 16, 20, "attribute"),
    ),
    (Binding("first", "cup", "red"), Binding("second", "chair", "blue")),
)
LEFT = np.zeros((32, 32), bool)
LEFT[8:24, 0:8] = True
RIGHT = LEFT[:, ::-1]
THINGS = (
    Found("cup", "red", 1, 1, (0, 32, 32, 96), 0.125, LEFT),
    Found("chair", "blue", 1, 1, (96, 32, 128, 96), 0.125, RIGHT),
)
