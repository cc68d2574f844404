"""A picture of the store traced again: its recipe is made once more, and each word's attention is kept.

    recipe --cell_of--> Cell, seed --word_maps--> WordMaps      same: the hash of its pixels is that in the store

Attention is seen only while a picture is made, so it is made again: the same settings, seed and rows to a batch, hence
the same bits on the same machine. Whether they are is said, never assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from promptlab.errors import UntraceableError
from promptlab.pictures import pixels_hash
from promptlab.records import Cell, Prompt, Settings
from promptlab.tracing import WordMaps, word_maps

__all__ = ["cell_of", "retrace"]


def cell_of(recipe: Mapping[str, Any]) -> tuple[Cell, int]:
    """The cell and the seed that a recipe speaks of. Raises UntraceableError for a picture that was not made here."""
    if recipe.get("backend") != "diffusion":
        made = {"renderer": "was drawn by the renderer, which reads no words", "folder": "was made elsewhere"}
        said = made.get(str(recipe.get("backend")), f"comes from the backend {recipe.get('backend')}, not a model here")
        raise UntraceableError(f"this picture {said}: there is no attention to show")
    known = {field.name for field in fields(Settings)}
    settings = Settings(**{name: value for name, value in recipe.items() if name in known})
    return Cell("", (), Prompt(str(recipe["prompt"])), settings, "", model=str(recipe["model"])), int(recipe["seed"])


def retrace(recipe: Mapping[str, Any], pixels: str | None, rows: int | None = None) -> tuple[WordMaps, bool]:
    """A picture made again with each word's attention, and whether its pixels are those with the hash `pixels`.

    `rows` is the size of the batch that it was made in. Words that every encoder cuts off have no map. Raises
    UntraceableError, ModelError and PromptlabError with a sentence where it cannot be made.
    """
    cell, seed = cell_of(recipe)
    size = {"rows": rows} if rows else {}
    found = word_maps(cell.prompt.text, seed, cell.settings, cell.model, kept_only=True, **size)
    return found, pixels_hash(found.picture) == pixels
