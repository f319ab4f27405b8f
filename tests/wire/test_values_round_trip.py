"""Values of many types, there and back through a real server: as an argument, as a value, as the items of a stream."""

import collections
import dataclasses
import datetime as dt
import enum
import ipaddress
import math
import pathlib
import re
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypeVar

import pydantic.dataclasses
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    SecretBytes,
    SecretStr,
    StringConstraints,
    Tag,
    computed_field,
)
from typing_extensions import TypedDict

from ephaptic_grpc import CallError, Service, connect_sync
from ephaptic_grpc.testing import serving

T = TypeVar("T")
K = TypeVar("K")


class Address(BaseModel):
    city: str
    zip: str | None = None


class User(BaseModel):
    name: str
    born: dt.date
    addresses: list[Address] = []
    scores: dict[str, float] = {}


class Tree(BaseModel):
    value: int
    children: list["Tree"] = []


class Box(BaseModel, Generic[T]):
    content: T


class Two(BaseModel, Generic[K, T]):
    key: K
    box: Box[T]


class Binary(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: bytes
    more: list[bytes] = []


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    user_name: str = Field(alias="userName")
    class_: int = Field(3, alias="class")


class Computed(BaseModel):
    model_config = ConfigDict(extra="ignore")
    width: int
    height: int

    @computed_field
    @property
    def area(self) -> int:
        return self.width * self.height


class Numbers(RootModel[list[int]]):
    pass


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)
    n: int


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str]


@dataclasses.dataclass
class Node:
    name: str
    data: bytes = b""
    next: "Node | None" = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    y: int = 0


@pydantic.dataclasses.dataclass
class Checked:
    n: Annotated[int, Field(ge=0)]
    tags: set[str] = dataclasses.field(default_factory=set)


class Movie(TypedDict):
    title: str
    year: NotRequired[int]
    poster: NotRequired[bytes]


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Colour(enum.StrEnum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Plain(enum.Enum):
    ONE = "one"
    TWO = 2


class Flags(enum.Flag):
    A = 1
    B = 2


def kind_of(value: Any) -> str:
    return "text" if isinstance(value, str) else "number"


texts = st.text(max_size=20)
ints = st.integers()
floats = st.floats(allow_nan=False, allow_infinity=False)
binary = st.binary(max_size=20)
days = st.dates()
# An offset of seconds has no place in ISO 8601.
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
# Not so near to the years 1 and 9999 that an offset leads out of them.
zoned = st.datetimes(timezones=zones).filter(lambda value: 1 < value.year < 9999)
spans = st.timedeltas(dt.timedelta(days=-36_500), dt.timedelta(days=36_500))
addresses = st.builds(Address, city=texts, zip=st.none() | texts)
users = st.builds(
    User,
    name=texts,
    born=days,
    addresses=st.lists(addresses, max_size=2),
    scores=st.dictionaries(texts, floats, max_size=2),
)
trees = st.recursive(
    st.builds(Tree, value=ints),
    lambda children: st.builds(Tree, value=ints, children=st.lists(children, max_size=3)),
    max_leaves=6,
)
nodes = st.recursive(
    st.builds(Node, name=texts, data=binary),
    lambda rest: st.builds(Node, name=texts, data=binary, next=rest),
    max_leaves=4,
)
cats, dogs = st.builds(Cat, lives=ints), st.builds(Dog, tricks=st.lists(texts, max_size=2))
json_data = st.recursive(
    st.none() | st.booleans() | ints | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)

TYPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    # scalars
    "none": (None, st.none()),
    "bool": (bool, st.booleans()),
    "int": (int, ints),
    "big_int": (int, st.integers(2**64, 2**600) | st.integers(-(2**600), -(2**64))),
    "float": (float, floats),
    # Pydantic 2.11 writes 1-0j as "1+-0j", and can't read that.
    "complex": (complex, st.builds(lambda real, imag: complex(real, imag + 0.0), floats, floats)),
    "str": (str, texts),
    "bytes": (bytes, binary),
    "decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    "datetime": (dt.datetime, st.datetimes()),
    "datetime_with_zone": (dt.datetime, zoned),
    "date": (dt.date, days),
    "time": (dt.time, st.times()),
    "time_with_zone": (dt.time, st.times(timezones=zones)),
    "timedelta": (dt.timedelta, spans),
    "uuid": (uuid.UUID, st.uuids()),
    "path": (pathlib.Path, st.sampled_from(["a", "/a/b", "../c.txt", "ä ö"]).map(pathlib.Path)),
    "ipv4": (ipaddress.IPv4Address, st.ip_addresses(v=4)),
    "ipv6": (ipaddress.IPv6Address, st.ip_addresses(v=6)),
    "network": (ipaddress.IPv4Network, st.ip_addresses(v=4).map(lambda a: ipaddress.IPv4Network(f"{a}/32"))),
    "pattern": (re.Pattern[str], st.sampled_from(["a+", r"^\d{3}$", "ä|ö"]).map(re.compile)),
    # enums and literals
    "str_enum": (Colour, st.sampled_from(Colour)),
    "int_enum": (Level, st.sampled_from(Level)),
    "plain_enum": (Plain, st.sampled_from(Plain)),
    "flags": (Flags, st.sampled_from([Flags.A, Flags.B, Flags.A | Flags.B])),
    "literal": (Literal["a", 1] | None, st.sampled_from(["a", 1, None])),
    "literal_enum": (Literal[Colour.RED], st.just(Colour.RED)),
    # collections
    "list": (list[int], st.lists(ints, max_size=4)),
    "list_of_bytes": (list[bytes], st.lists(binary, max_size=4)),
    "set": (set[int], st.sets(ints, max_size=4)),
    "frozenset": (frozenset[str], st.frozensets(texts, max_size=4)),
    "tuple": (tuple[int, str, bytes], st.tuples(ints, texts, binary)),
    "empty_tuple": (tuple[()], st.just(())),
    "tuple_of_any_length": (tuple[int, ...], st.lists(ints, max_size=4).map(tuple)),
    "deque": (collections.deque[int], st.lists(ints, max_size=4).map(collections.deque)),
    "dict": (dict[str, int], st.dictionaries(texts, ints, max_size=3)),
    "dict_of_bytes": (dict[str, bytes], st.dictionaries(texts, binary, max_size=3)),
    "dict_by_int": (dict[int, str], st.dictionaries(ints, texts, max_size=3)),
    "dict_by_uuid": (dict[uuid.UUID, int], st.dictionaries(st.uuids(), ints, max_size=3)),
    "dict_by_date": (dict[dt.date, int], st.dictionaries(days, ints, max_size=3)),
    "dict_by_enum": (dict[Colour, int], st.dictionaries(st.sampled_from(Colour), ints)),
    "dict_by_bytes": (dict[bytes, int], st.dictionaries(binary, ints, max_size=3)),
    "ordered_dict": (
        collections.OrderedDict[str, int],
        st.dictionaries(texts, ints, max_size=3).map(collections.OrderedDict),
    ),
    "counter": (collections.Counter[str], st.lists(texts, max_size=4).map(collections.Counter)),
    "nested": (dict[str, list[tuple[int, set[str]] | None]], st.dictionaries(
        texts, st.lists(st.none() | st.tuples(ints, st.sets(texts, max_size=2)), max_size=2), max_size=2
    )),
    # classes
    "model": (User, users),
    "models": (list[User], st.lists(users, max_size=2)),
    "models_by_name": (dict[str, Address | None], st.dictionaries(texts, st.none() | addresses, max_size=2)),
    "recursive_model": (Tree, trees),
    "recursive_models": (tuple[list[Tree], dict[str, Tree]], st.tuples(
        st.lists(trees, max_size=2), st.dictionaries(texts, trees, max_size=2)
    )),
    "generic": (Box[Box[Address]], addresses.map(lambda a: Box[Box[Address]](content=Box[Address](content=a)))),
    "generic_of_two": (
        Two[uuid.UUID, list[Tree]],
        st.builds(
            lambda key, content: Two[uuid.UUID, list[Tree]](key=key, box=Box[list[Tree]](content=content)),
            st.uuids(),
            st.lists(trees, max_size=2),
        ),
    ),
    "model_with_bytes": (Binary, st.builds(Binary, data=binary, more=st.lists(binary, max_size=2))),
    "aliased": (Aliased, st.builds(Aliased, user_name=texts, class_=ints)),
    "computed": (Computed, st.builds(Computed, width=ints, height=ints)),
    "root_model": (Numbers, st.lists(ints, max_size=3).map(Numbers)),
    "set_of_models": (frozenset[Frozen], st.frozensets(st.builds(Frozen, n=ints), max_size=3)),
    "dataclass": (Point, st.builds(Point, x=ints, y=ints)),
    "recursive_dataclass": (Node, nodes),
    "dataclasses": (list[Node | None], st.lists(st.none() | nodes, max_size=2)),
    "pydantic_dataclass": (Checked, st.builds(Checked, n=st.integers(min_value=0), tags=st.sets(texts, max_size=2))),
    "typed_dict": (Movie, st.fixed_dictionaries({"title": texts}, optional={"year": ints, "poster": binary})),
    "named_tuple": (Pair, st.builds(Pair, ints, texts)),
    # choices
    "optional": (int | None, st.none() | ints),
    "optional_model": (User | None, st.none() | users),
    "union": (int | str | list[float], ints | texts | st.lists(floats, max_size=2)),
    "int_or_float": (int | float, ints | floats.filter(lambda x: x != math.floor(x))),
    "union_of_models": (Cat | Dog, cats | dogs),
    "tagged_union": (Annotated[Cat | Dog, Field(discriminator="kind")], cats | dogs),
    "tagged_unions": (
        dict[str, list[Annotated[Cat | Dog, Field(discriminator="kind")]]],
        st.dictionaries(texts, st.lists(cats | dogs, max_size=2), max_size=2),
    ),
    "tagged_by_a_function": (
        Annotated[Annotated[str, Tag("text")] | Annotated[int, Tag("number")], Discriminator(kind_of)],
        texts | ints,
    ),
    "date_or_datetime": (dt.datetime | int, st.datetimes() | ints),
    # constraints
    "constrained": (Annotated[int, Field(ge=0, lt=10)], st.integers(0, 9)),
    "constrained_text": (Annotated[str, StringConstraints(pattern=r"^[a-z]*$")], st.text("abc", max_size=5)),
    "constrained_list": (Annotated[list[int], Field(max_length=2)], st.lists(ints, max_size=2)),
    # no type at all
    "anything": (Any, json_data),
    "any_list": (list, st.lists(json_data, max_size=2)),
    "any_dict": (dict, st.dictionaries(texts, json_data, max_size=2)),
}  # fmt: skip


def identity(annotation: Any) -> Any:
    async def same(value: annotation) -> annotation:
        return value

    return same


def repeated(annotation: Any) -> Any:
    async def same(values: list[annotation]) -> AsyncIterator[annotation]:
        for value in values:
            yield value

    return same


@pytest.fixture(scope="module")
def client():
    service = Service("types.v1.TypesService")
    for name, (annotation, _) in TYPES.items():
        service.expose(name=f"one_{name}")(identity(annotation))
        service.expose(name=f"many_{name}")(repeated(annotation))
    with serving(service) as served:
        yield served.client


def assert_same(found: Any, sent: Any) -> None:
    assert found == sent
    assert type(found) is type(sent)


@pytest.mark.parametrize("name", TYPES)
def test_values_come_back_as_they_went(client, name):
    _, values = TYPES[name]

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(values, min_size=1, max_size=3))
    def round_trip(several):
        assert_same(client.call(f"one_{name}", several[0]), several[0])
        assert_same(client.call(f"one_{name}", value=several[-1]), several[-1])
        items = list(client.call(f"many_{name}", several))
        assert len(items) == len(several)
        for item, value in zip(items, several, strict=True):
            assert_same(item, value)

    round_trip()


def test_a_secret_goes_in_and_comes_out_masked(serve):
    service = Service("secret.v1.SecretService")

    @service.expose
    def seen(secret: SecretStr, key: SecretBytes | None = None) -> tuple[str, bytes | None]:
        return secret.get_secret_value(), key and key.get_secret_value()

    @service.expose
    def told() -> SecretStr:
        return SecretStr("hunter2")

    served = serve(service)
    assert served.client.seen(SecretStr("hunter2"), SecretBytes(b"\xff")) == ("hunter2", b"\xff")
    assert served.client.seen("hunter2") == ("hunter2", None)
    assert served.client.told().get_secret_value() == "**********"
    with connect_sync(served.address, service.name) as untyped:
        assert untyped.seen("hunter2") == ["hunter2", None]


def test_floats_that_are_no_numbers_do_not_fit(serve):
    service = Service("float.v1.FloatService")

    @service.expose
    def told(text: str) -> float | None:
        return float(text)

    client = serve(service).client
    assert client.told("1e308") == 1e308
    for text in ("nan", "inf", "-inf"):
        with pytest.raises(CallError, match="INTERNAL"):
            client.told(text)
