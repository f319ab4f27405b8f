"""A service with every kind of value and of parameter, whose compiled and generated forms lie beside it."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Self, TypeVar, Unpack

from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr
from typing_extensions import TypedDict

from ephaptic_grpc import Service

T = TypeVar("T")

shapes = Service("shapes.v1.ShapesService")


class Colour(enum.Enum):
    """Of the rainbow."""

    RED = "red"
    CRIMSON = "red"
    DEEP_BLUE = "deep blue"


class Priority(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Address(BaseModel):
    """Where somebody lives."""

    street: str = Field(description="With the number.")
    city: Annotated[str, Field(min_length=1)] = "Paris"


@dataclass
class Point:
    x: float
    y: float = 0.0
    labels: list[str] = field(default_factory=list)


class Movie(TypedDict):
    name: str
    year: NotRequired[int]


class Pair(NamedTuple):
    first: int
    second: str = "x"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    good: bool = True


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Node(BaseModel):
    """A tree."""

    value: int
    children: list[Node] = []
    parent: Node | None = None


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: str | None = None


class Tags(RootModel[dict[str, list[str]]]):
    """By topic."""


class Everything(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    id: uuid.UUID
    at: dt.datetime
    date: dt.date
    clock: dt.time
    took: dt.timedelta
    price: decimal.Decimal
    data: bytes
    colour: Colour = Colour.RED
    priority: Priority
    pets: list[Pet]
    point: Point
    pair: Pair
    movie: Movie
    fixed: tuple[int, str]
    many: tuple[int, ...]
    names: set[str]
    numbers: frozenset[int]
    by_name: dict[str, list[int]]
    maybe: int | None
    literal: Literal["a", 1, None]
    anything: Any
    schema_: str = Field(alias="schema")
    home: Address = Address(street="1 Rue de Rivoli")
    since: dt.datetime = dt.datetime(2020, 1, 1)
    tags: Tags = Tags({})
    tree: Node

    @classmethod
    def example(cls) -> Self:
        return cls(
            id=uuid.UUID(int=7),
            at=dt.datetime(2026, 11, 26, 12, 0, 0, 123456),
            date=dt.date(2026, 11, 26),
            clock=dt.time(12, 30),
            took=dt.timedelta(days=1, milliseconds=5),
            price=decimal.Decimal("1.10"),
            data=b"\x00\xff",
            priority=Priority.HIGH,
            pets=[Cat(), Dog(good=False)],
            point=Point(1.5),
            pair=Pair(1),
            movie={"name": "Alien"},
            fixed=(1, "one"),
            many=(1, 2),
            names={"ada"},
            numbers=frozenset({3}),
            by_name={"a": [1]},
            maybe=None,
            literal=None,
            anything={"nested": [1, None, "x"]},
            schema="s",
            tree=Node(value=1, children=[Node(value=2)]),
        )


class Filters(TypedDict, total=False):
    colour: Colour
    limit: int


@shapes.expose(idempotent=True)
async def echo(everything: Everything) -> Everything:
    """Give back what came."""
    return everything


@shapes.expose
async def trees(node: Node, depth: int = 3, *, name: str | None = None) -> AsyncIterator[Node]:
    """Grow a tree.

    One level after the other: \"\"\", \\ and "in the end"
    """
    for level in range(depth):
        yield Node(value=level, parent=node)


@shapes.expose
def find(query: str, /, near: Pair = Pair(1), *rest: int) -> list[str]:
    return [query, near.second, *map(str, rest)]


@shapes.expose
def pets(first: Colour = Colour.DEEP_BLUE, **filters: Unpack[Filters]) -> Iterator[Cat | Dog]:
    yield Cat()
    yield Dog()


@shapes.expose(name="list", reply_bytes=2**24)
async def list_addresses(page: int = 1, limit: Annotated[int, Field(alias="max", le=100)] = 10) -> Page[Address]:
    """A function that is called like a type."""
    return Page(items=[Address(street=str(page))] * limit)


@shapes.expose
async def login(user: str, password: SecretStr = SecretStr("a secret"), **more: Movie) -> None: ...


@shapes.expose
async def nothing() -> None: ...
