"""The dashboard as a server: the pages, and the pictures by URL. `promptlab dashboard` or `streamlit run` starts it.

Pictures go out as small files that the browser fetches when they come into view and then keeps; a page holds only their
addresses. An address names a picture by its SHA-256, never by a path.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from streamlit.starlette import App

from promptlab.errors import PromptlabError
from promptlab.store import pictures
from promptlab.store.home import find_home

SIDES = {"small": 128, "medium": 256}
LIBRARIES = ("altair", "duckdb", "pandas", "pyarrow", "scipy.stats", "promptlab.results.tables")
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}


def picture(request: Request) -> Response:
    """A thumbnail, or the PNG itself (side "whole"); 404 for anything that is no picture of this home."""
    name, side = request.path_params["file"], request.path_params["side"]
    home = find_home()
    try:
        path = pictures.path_of(home, name) if side == "whole" else pictures.thumbnail(home, name, SIDES[side])
    except (PromptlabError, KeyError, OSError, ValueError):
        return PlainTextResponse("no such picture", 404)
    if not path.is_file():
        return PlainTextResponse("no such picture", 404)
    return FileResponse(path, headers=FOREVER)


@asynccontextmanager
async def ready(_: App) -> AsyncIterator[None]:
    """Load what every page needs before the first asks, and set it aside from the search for garbage.

    Streamlit searches after each run of a page, before the browser hears that it has ended; these libraries alone keep
    that busy for a tenth of a second. Charts are held against their schema in the tests, not at each click.
    """
    for library in LIBRARIES:
        import_module(library)
    import_module("altair.utils.schemapi").disable_debug_mode()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


app = App(Path(__file__).with_name("pages.py"), routes=[Route("/pictures/{side}/{file}", picture)], lifespan=ready)
