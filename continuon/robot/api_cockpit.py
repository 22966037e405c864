"""The cockpit's files: plain HTML, CSS and JavaScript out of the package.

The page itself holds no secret and is given to everybody who reaches the robot; what it
shows, it asks the API for, with a token. It loads nothing from anywhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

__all__ = ["COCKPIT_FILES", "cockpit_routes"]

COCKPIT_FILES = {
    "index.html": "text/html; charset=utf-8",
    "cockpit.css": "text/css; charset=utf-8",
    "main.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "camera.js": "text/javascript; charset=utf-8",
    "drive.js": "text/javascript; charset=utf-8",
    "panels.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def cockpit_routes() -> list[BaseRoute]:
    """Return a route for each file; the page stands at `/`."""
    routes: list[BaseRoute] = [Route("/", _give("index.html"))]
    routes += [
        Route(f"/cockpit/{name}", _give(name))
        for name in COCKPIT_FILES
        if name != "index.html"
    ]
    return routes


def _give(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        return Response(_read(name), media_type=COCKPIT_FILES[name], headers=_HEADERS)

    return answer


@cache
def _read(name: str) -> bytes:
    return (files("continuon.robot") / "cockpit" / name).read_bytes()
