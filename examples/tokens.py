"""Functions for who has a token only, whichever way they are called: over gRPC, from a browser, by plain HTTP.

NOTES_TOKEN=secret ephaptic-grpc serve examples.tokens
ephaptic-grpc call localhost:50051 notes.v1.NotesService/add text=tea -H "authorization: Bearer secret"
"""

import functools
import os
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Final, ParamSpec, TypeVar

import grpc

from ephaptic_grpc import Service, ServiceError, current_call

TOKEN: Final = os.environ.get("NOTES_TOKEN") or secrets.token_urlsafe()  # nobody's, where none is given

P = ParamSpec("P")
T = TypeVar("T")

notes = Service("notes.v1.NotesService")
taken: list[str] = []


def authenticated(function: Callable[P, T]) -> Callable[P, T]:
    """Check the caller's token before the function begins: one that is async or isn't, one that streams, too."""

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        given = str(current_call().metadata.get("authorization", ""))
        if not secrets.compare_digest(given.encode(), f"Bearer {TOKEN}".encode()):
            raise ServiceError(grpc.StatusCode.UNAUTHENTICATED, "this needs a token, as authorization: Bearer ...")
        return function(*args, **kwargs)

    return checked


@notes.expose
@authenticated
async def add(text: str) -> int:
    """Take a note; its number comes back."""
    taken.append(text)
    return len(taken)


@notes.expose
@authenticated
async def read() -> AsyncIterator[str]:
    """Every note."""
    for text in taken:
        yield text


@notes.expose
@authenticated
def count() -> int:
    """How many notes there are."""
    return len(taken)
