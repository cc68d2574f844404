"""The dashboard as a server: the pages, and the images by URL. `promptlab dashboard` or `streamlit run` starts it.

Images go out as small files that the browser fetches when they come into view and then keeps; a page holds only their
addresses. An address names an image by its SHA-256, never by a path.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from streamlit.starlette import App

from promptlab.errors import PromptlabError
from promptlab.store import pictures
from promptlab.store.home import find_home

SIDES = {"small": 128, "medium": 256}
LIBRARIES = ("altair", "duckdb", "pandas", "pyarrow", "scipy.stats", "promptlab.results.tables")
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
FORMER_ADDRESSES = {"winning": "ranking", "rate": "blind_rating", "doctor": "prompt_doctor"}
"""Pages that were renamed; bookmarks of the former address lead to the page of today."""


def picture(request: Request) -> Response:
    """A thumbnail, or the PNG itself (side "whole"); 404 for anything that is not an image of this home."""
    name, side = request.path_params["file"], request.path_params["side"]
    home = find_home()
    try:
        path = pictures.path_of(home, name) if side == "whole" else pictures.thumbnail(home, name, SIDES[side])
    except (PromptlabError, KeyError, OSError, ValueError):
        return PlainTextResponse("no such picture", 404)
    if not path.is_file():
        return PlainTextResponse("no such picture", 404)
    return FileResponse(path, headers=FOREVER)


def moved(request: Request) -> Response:
    """The way from a former address to the page of today, with the same study and filters."""
    return RedirectResponse(request.url.replace(path="/" + FORMER_ADDRESSES[request.url.path.strip("/")]), 308)


@asynccontextmanager
async def ready(_: App) -> AsyncIterator[None]:
    """Load what every page needs before the first request, and exempt it from garbage collection.

    Streamlit collects garbage after each run of a page, before the browser hears that the run has ended. These
    libraries alone keep the collector busy for a tenth of a second. Tests validate the charts against their schema,
    so that no click has to.
    """
    for library in LIBRARIES:
        import_module(library)
    import_module("altair.utils.schemapi").disable_debug_mode()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


app = App(
    Path(__file__).with_name("navigation.py"),
    routes=[
        Route("/pictures/{side}/{file}", picture),
        *(Route(f"/{former}", moved) for former in FORMER_ADDRESSES),
    ],
    lifespan=ready,
)
