"""The HTTP interface: the page, what it shows as JSON and as a stream, control, and `/metrics`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

import neurofed
from neurofed.errors import ConfigError, NeuroFedError, RunNotFoundError, RunStateError, StorageError
from neurofed.security.identity import Role
from server import samples
from server.control import DRAINED
from server.fleet import FleetService
from server.runs import RunManager
from server.watch import STALL_S
from server.web.feed import Feed, Place
from server.web.feeds import Feeds
from server.web.gate import COOKIE
from server.web.metrics import exposition
from server.web.view import entry_view

STATIC: Final = Path(__file__).with_name("static")
MAX_VIEWERS: Final = 256
_MAX_TOKEN_BYTES: Final = 512
_STATUS: Final = {ConfigError: 400, RunNotFoundError: 404, RunStateError: 409, StorageError: 507}


def build(runs: RunManager, fleet: FleetService, feeds: Feeds, folder: Path) -> Starlette:
    """The application, without the gate that belongs before it.

    Args:
        runs: the runs.
        fleet: the workers.
        feeds: what is shown of the runs.
        folder: of the runs.
    """
    pages = _Pages(runs, fleet, feeds, folder)
    routes = [
        Route("/", pages.index),
        Route("/healthz", pages.healthz),
        Route("/metrics", pages.metrics),
        Route("/api/session", pages.session),
        Route("/api/session", pages.log_in, methods=["POST"]),
        Route("/api/runs", pages.list_runs),
        Route("/api/runs/{run_id}/snapshot", pages.snapshot),
        Route("/api/runs/{run_id}/events", pages.events),
        Route("/api/runs/{run_id}/samples/{name}", pages.sample),
        Route("/api/runs/{run_id}/{action:str}", pages.control, methods=["POST"]),
        Route("/api/workers", pages.list_workers),
        Route("/api/workers/{name}/drain", pages.drain, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)],
        exception_handlers={NeuroFedError: _in_words},
    )


class EventStream(StreamingResponse):
    """Server-Sent Events to one viewer, who is left when it does not read."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, after: Place | None) -> None:
        self._feed = feed
        super().__init__(feed.frames(after), headers={"x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the run has ended or the viewer has gone, by itself or because it does not read."""

        async def in_time(message: Message) -> None:
            async with asyncio.timeout(STALL_S):
                await send(message)

        self._feed.viewers += 1
        try:
            await super().__call__(scope, receive, in_time)
        except* TimeoutError:
            pass
        finally:
            self._feed.viewers -= 1


class _Pages:
    """The handlers."""

    def __init__(self, runs: RunManager, fleet: FleetService, feeds: Feeds, folder: Path) -> None:
        self._runs, self._fleet, self._feeds, self._folder = runs, fleet, feeds, folder

    async def index(self, _: Request) -> Response:
        """The page."""
        return FileResponse(STATIC / "index.html")

    async def healthz(self, _: Request) -> Response:
        """A word that all is well."""
        return PlainTextResponse("ok\n")

    async def metrics(self, request: Request) -> Response:
        """The numbers of the active run in Prometheus' format."""
        run_id = self._feeds.active()
        feed = await self._feeds.get(run_id) if run_id else None
        body, media_type = exposition(feed, self._feeds, self._folder, request.headers.get("accept", ""))
        return Response(body, media_type=media_type)

    async def session(self, request: Request) -> Response:
        """Who the caller is."""
        role: Role | None = request.state.role
        return JSONResponse({"role": role, "version": neurofed.__version__}, 200 if role else 401)

    async def log_in(self, request: Request) -> Response:
        """A cookie for a token."""
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _MAX_TOKEN_BYTES:
                return JSONResponse({"error": "expected a token, got something longer"}, 413)
        found = request.state.gate.cookie_for(body.decode(errors="replace").strip())
        if found is None:
            return JSONResponse({"error": "expected a token that counts, got another"}, 401)
        response = JSONResponse({"role": found[1], "version": neurofed.__version__})
        response.set_cookie(
            COOKIE, found[0], httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/"
        )
        return response

    async def list_runs(self, _: Request) -> Response:
        """The runs, newest first."""
        entries = [entry_view(entry) for entry in self._runs.entries()]
        return JSONResponse({"active": self._feeds.active(), "runs": entries})

    async def list_workers(self, _: Request) -> Response:
        """The workers' processes and boards."""
        return JSONResponse({"boards": self._feeds.boards()})

    async def snapshot(self, request: Request) -> Response:
        """A run as it stands."""
        feed = await self._feeds.get(request.path_params["run_id"])
        return JSONResponse(feed.whole())

    async def events(self, request: Request) -> Response:
        """A run's events and what they changed, as they happen."""
        feed = await self._feeds.get(request.path_params["run_id"])
        if self._feeds.viewers >= MAX_VIEWERS:
            return JSONResponse({"error": f"expected at most {MAX_VIEWERS} viewers at a time"}, 503)
        text = request.headers.get("last-event-id") or request.query_params.get("after", "")
        after = Place.parse(text)
        if text and after is None:
            return JSONResponse({"error": "expected the identifier of a frame, or the number of an event"}, 400)
        return EventStream(feed, after)

    async def sample(self, request: Request) -> Response:
        """A picture of a late evaluation."""
        feed = await self._feeds.get(request.path_params["run_id"])
        name = request.path_params["name"]
        path = feed.run.folder / samples.FOLDER / name
        if not samples.NAME.fullmatch(name) or not path.is_file():
            return JSONResponse({"error": "expected a picture of a late evaluation"}, 404)
        return FileResponse(path, media_type="image/png")

    async def control(self, request: Request) -> Response:
        """Let a run pause, go on or stop."""
        wishes = {"pause": self._runs.pause, "resume": self._runs.resume, "stop": self._runs.stop}
        wish = wishes.get(request.path_params["action"])
        if wish is None:
            return JSONResponse({"error": f"expected one of {', '.join(wishes)}"}, 404)
        feed = await self._feeds.get(request.path_params["run_id"])
        await asyncio.to_thread(wish, feed.run.run_id)
        return JSONResponse({"done": True})

    async def drain(self, request: Request) -> Response:
        """Ask a worker to leave."""
        name = request.path_params["name"]
        if not self._fleet.drain(DRAINED, name):
            return JSONResponse({"error": f"expected a connected worker, got {name!r}"}, 404)
        return JSONResponse({"done": True})


async def _in_words(_: Request, error: Any) -> Response:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    return JSONResponse({"error": str(error), "exit_code": error.exit_code}, status)
