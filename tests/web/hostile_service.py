"""Names and docs that would break out of a generated module, if they could."""

from collections.abc import AsyncIterator
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from ephaptic_grpc import Service

hostile = Service("hostile.v1.Stream")
"""A service that is called like a type of the runtime."""

DOC = '*/ } ]; throw new Error("out"); /* ` ${1} " \' \u2028 <script>'

Error: TypeAlias = create_model("Error", __doc__=DOC, message=(str, ...))  # type: ignore[valid-type]
Promise = create_model("Promise", __doc__="Not that one.", then=(str, ...))


class Array(BaseModel):
    model_config = ConfigDict(extra="allow")

    constructor: str = Field("x", description=DOC)
    quoted: str = Field(alias='a"b\\c\n*/')
    proto: Annotated[str, Field(alias="__proto__")] = "*/ throw"


class Record(BaseModel):
    any: "list[Record] | dict[Literal['a', 'b'], Record] | None" = None
    number: Literal["*/", "\u2028", '"', 9007199254740993, True] = "*/"


class Json(RootModel["str | int | list[Json] | dict[str, Json]"]):
    """A type that refers to itself, and to nothing else."""


@hostile.expose
async def then(function: int, new: Error, *, default: Promise | None = None) -> Array:
    raise NotImplementedError


then.__doc__ = DOC


@hostile.expose
async def delete(this: int, options: Record, named: str = "x", transport: str = "y", *, client: bool) -> Record:
    return options


@hostile.expose
async def constructor(arguments: int, /, var: int = 1, *positional: int) -> AsyncIterator[int]:
    yield arguments


@hostile.expose
async def new(new: int) -> int:
    return new


@hostile.expose
async def toString(*, asQuery: int = 1, **query: int) -> Json:  # noqa: N802, N803
    return Json.model_validate({**query, "asQuery": asQuery})
