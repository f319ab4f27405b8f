"""The edge for browsers and for plain HTTP, as an ASGI app: gRPC-Web and JSON on the same paths, with no proxy.

    app = FastAPI()
    app.mount("/rpc", web_app(chat))

It needs the extra ``asgi``. What a call looks like is in ``faces``, how it lives in ``exchange``.
"""

import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import grpc

from ephaptic_grpc.codegen.openapi import with_services
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.edge import DRAINING, Calls, procedures_of, served
from ephaptic_grpc.errors import Status
from ephaptic_grpc.exchange import Endpoint, Exchange, Receive, Scope, Send, send_answer
from ephaptic_grpc.faces import GRPC_WEB, GRPC_WEB_TEXT, JSON, Answer, EventStream, Face
from ephaptic_grpc.limits import Limits, check_limits
from ephaptic_grpc.names import rpc_path
from ephaptic_grpc.origins import ALLOWED_HEADERS, EXPOSED_HEADERS, check_pages
from ephaptic_grpc.records import printable
from ephaptic_grpc.service import Service
from ephaptic_grpc.threads import Threads

try:
    from starlette.middleware.cors import CORSMiddleware
    from starlette.routing import Mount, Router
except ImportError:
    raise ImportError("ephaptic_grpc.asgi needs Starlette: pip install 'ephaptic-grpc[asgi]'") from None

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger("ephaptic_grpc")

_BY_POST: Final = Status(grpc.StatusCode.UNIMPLEMENTED, "functions are called by POST", ())
_UNREADABLE: Final = Status(
    grpc.StatusCode.INVALID_ARGUMENT,
    "the content-type is application/json, application/grpc-web or application/grpc-web-text",
    (),
)
_NOT_MOUNTED: Final = (
    "the docs of a FastAPI app leave out %s: web_app(..., include_in_docs=app) names the app that it is mounted in "
    "itself, by app.mount, before the docs are made"
)
_PATH: Final = re.compile(r"/([^/]+)/([^/]+)")
_PATH_CHARS: Final = 200
"""Of a path that no function has: what is told of it."""

_IMPLIED_PORTS: Final = {b"http": b":80", b"https": b":443"}

_FACES: Final[dict[bytes, Face]] = {
    b"application/grpc-web": GRPC_WEB,
    b"application/grpc-web+proto": GRPC_WEB,
    b"application/grpc-web-text": GRPC_WEB_TEXT,
    b"application/grpc-web-text+proto": GRPC_WEB_TEXT,
    b"application/json": JSON,
}


def web_app(
    *services: Service,
    origins: Iterable[str] = (),
    headers: Iterable[str] = (),
    limits: Limits = Limits(),  # noqa: B008  it is frozen
    include_in_docs: "FastAPI | None" = None,
) -> "WebApp":
    """An ASGI app in which browsers, and whatever speaks HTTP, call functions: at ``POST /<service>/<Function>``.

    Args:
        services: what may be called; none means the default service, that of ``ephaptic_grpc.expose``.
        origins: the sites whose pages may call, such as ``https://app.example.com``, besides the app's own. A page of
            any other is refused before a function runs.
        headers: names of the request headers that such pages may send besides those of gRPC-Web and ``authorization``.
        limits: what it allows.
        include_in_docs: the FastAPI app whose ``/docs`` and ``/openapi.json`` describe the functions as well, once this
            is mounted in it. It has to be named: an app is not told where it is mounted until it is called, and docs
            are read before.

    Raises:
        TypeError, ValueError: what is no service, two of one name, or what is no origin, no header, no limits.
        ExposeError: an annotation of an exposed function names something that is not defined.
    """
    for name, given in (("origins", origins), ("headers", headers)):
        if isinstance(given, str):
            raise TypeError(f"{name} is a list, such as [{given!r}], not a text")
    check_limits(limits)
    app = WebApp(served(services), tuple(origins), tuple(headers), limits)
    if include_in_docs is not None:
        _include(app, include_in_docs)
    return app


class WebApp:
    """What ``web_app`` makes.

    Attributes:
        services: what may be called.
    """

    def __init__(
        self, services: tuple[Service, ...], origins: tuple[str, ...], headers: tuple[str, ...], limits: Limits
    ) -> None:
        check_pages(origins, headers)
        self.services: Final = services
        self._origins: Final = frozenset(origin.encode() for origin in origins)
        self._limits: Final = limits
        self._threads: Final = Threads(limits.threads)
        self._calls: Final[Calls[Exchange]] = Calls(limits.calls)
        self._stopping = False
        self._endpoints: Final = {
            procedure.path: Endpoint(procedure, self._threads, self._calls, limits)
            for procedure in procedures_of(services)
        }
        self._router: Final = Router()  # of what is no request of HTTP
        self._for_pages: Final = CORSMiddleware(
            self._call_from_page,
            allow_origins=origins,
            allow_methods=("POST",),
            allow_headers=(*ALLOWED_HEADERS, *headers),
            allow_credentials=True,
            expose_headers=EXPOSED_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if b"origin" in headers:
            await self._for_pages(scope, receive, send)
        else:
            await self._call(headers, scope, receive, send)

    async def stop(self, grace: float = 0.0) -> None:
        """Take no new calls, let those in flight finish for ``grace`` seconds, cancel the others, and wait for their
        clean-up. A program that has its own ASGI server calls it before that server stops, which waits for streams.
        """
        self._stopping = True
        if self._calls.count and grace:
            logger.info("stopping: calls over HTTP in flight (%d) have %g seconds to finish", self._calls.count, grace)
        await self._calls.drain(grace, self._limits.cleanup)
        self._calls.log_left_behind()
        self._threads.close()

    async def _call_from_page(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        origin, own = headers[b"origin"], _own_origin(scope, headers)
        if origin == own or origin in self._origins:
            await self._call(headers, scope, receive, send)
        else:
            known = own.decode("latin-1")
            text = f"pages of this origin may not call: the app's own is {known}, others need origins= or --origin"
            refused = (_face(headers) or JSON).failed(Status(grpc.StatusCode.PERMISSION_DENIED, text, ()))
            await send_answer(refused._replace(status=403), send)

    async def _call(self, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        endpoint = self._endpoints.get(path)
        face = _face(headers)
        if endpoint is None or face is None or scope["method"] != "POST" or _is_spelt_otherwise(scope, path):
            await send_answer(self._refusal(scope["method"], path, face), send)
        elif self._stopping:
            await send_answer(face.failed(DRAINING), send)
        else:
            await Exchange(endpoint, face, scope, receive, send).run(headers.get(b"grpc-timeout"))

    def _refusal(self, method: str, path: str, face: Face | None) -> Answer:
        """What is told of a request that reaches no function."""
        parts = _PATH.fullmatch(path)
        if parts is not None and method != "POST":
            answer = JSON.failed(_BY_POST)
            return answer._replace(status=405, headers=[*answer.headers, (b"allow", b"POST")])
        if parts is not None and face is None:
            return JSON.failed(_UNREADABLE)._replace(status=415)
        text = f"no such function: {printable(path[:_PATH_CHARS])}"
        if parts is not None and (called := rpc_path(*parts.groups())) in self._endpoints:
            text += f" (it is called by the name of its RPC, as {called})"
        answer = (face or JSON).failed(Status(grpc.StatusCode.UNIMPLEMENTED, text, ()))
        return answer if answer.status == 200 else answer._replace(status=404)  # it is the path that isn't there


def _include(app: WebApp, parent: "FastAPI") -> None:
    """Describe an app's functions in the OpenAPI document of the FastAPI app that it is mounted in."""
    if not callable(getattr(parent, "openapi", None)):
        raise TypeError(f"include_in_docs takes the FastAPI app that this is mounted in, not {parent!r}")
    own = parent.openapi  # FastAPI's own documentation says to replace it
    contracts = [Contract.of(service) for service in app.services if service.exposes_anything]
    last: tuple[dict[str, Any], dict[str, Any]] | None = None

    def openapi() -> dict[str, Any]:
        nonlocal last
        document = own()  # FastAPI makes it once, and again when it has more routes
        if last is None or last[0] is not document:
            mounted = next((route for route in parent.routes if isinstance(route, Mount) and route.app is app), None)
            if mounted is None:
                logger.warning(_NOT_MOUNTED, ", ".join(service.name for service in app.services))
            last = document, document if mounted is None else with_services(document, contracts, mounted.path)
        return last[1]

    parent.openapi = openapi  # type: ignore[method-assign]


def _is_spelt_otherwise(scope: Scope, path: str) -> bool:
    """Whether a path has percent-encoded letters: a proxy's rules are for paths as they are written."""
    raw = scope.get("raw_path") or b""
    return b"%" in raw and not raw.partition(b"?")[0].endswith(path.encode())


def _face(headers: dict[bytes, bytes]) -> Face | None:
    content_type = headers.get(b"content-type", b"")
    face = _FACES.get(content_type)
    if face is None:  # it is written in another way, or has parameters
        kind, _, parameters = content_type.lower().partition(b";")
        face = _FACES.get(kind.strip())
        if face is JSON and b"charset" in parameters and b"utf-8" not in parameters:
            return None
    if face is JSON and b"text/event-stream" in headers.get(b"accept", b""):
        return EventStream()
    return face


def _own_origin(scope: Scope, headers: dict[bytes, bytes]) -> bytes:
    """The origin of the app's own pages, as browsers write it: in small letters, without the port that is implied."""
    scheme = scope.get("scheme", "http").encode()
    host = headers.get(b"host", b"").lower().removesuffix(_IMPLIED_PORTS.get(scheme, b""))
    return b"%b://%b" % (scheme, host)
