"""Pairs of functions, old and new, and Pydantic as the judge: what is called compatible has no counterexample."""

import warnings
from collections.abc import AsyncIterator
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_values import json_values
from pydantic import (
    AliasChoices,
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    SecretStr,
    ValidationError,
    computed_field,
    create_model,
)
from pydantic_core import PydanticSerializationError, to_json
from type_pairs import type_pairs
from typing_extensions import TypedDict

from ephaptic_grpc import ExposeError, Service, ServiceError
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.differences import Severity
from ephaptic_grpc.evolution import evolution

BREAKING, UNCLEAR, COMPATIBLE = Severity

NAMED = {one.__name__: one for one in (AnyUrl, AsyncIterator, Decimal, Json, SecretStr, UUID, date, datetime)}
"""What signatures below name and nothing else does."""


def model(name: str = "Model", config: ConfigDict | None = None, **fields: Any) -> type[BaseModel]:
    made = {key: field if isinstance(field, tuple) else (field, ...) for key, field in fields.items()}
    return create_model(name, __config__=config, **made)


class Color(Enum):
    red = "red"
    blue = "blue"


class Colors(Enum):
    red = "red"
    blue = "blue"
    green = "green"


class Level(IntEnum):
    low = 1
    high = 2


class Levels(IntEnum):
    low = 1
    middle = 3
    high = 2


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


class Fish(BaseModel):
    kind: Literal["fish"] = "fish"


class Pair(NamedTuple):
    x: int
    y: int


class Pair3(NamedTuple):
    x: int
    y: int
    z: int = 0


class Partial(TypedDict):
    a: int
    b: NotRequired[int]


class Whole(TypedDict):
    a: int
    b: int


def tree(value: Any, name: str = "Tree", **more: Any) -> type[BaseModel]:
    """A model that holds itself, twice over."""
    held: dict[str, Any] = {"children": (f"list[{name}]", []), "left": (f"{name} | None", None)}
    return create_model(name, value=(value, ...), **held, **more)


def mutual(value: Any) -> type[BaseModel]:
    """Two models that hold each other."""
    names: dict[str, Any] = {}
    names["Leaf"] = create_model("Leaf", value=(value, ...), branches=("list[Branch]", []))
    names["Branch"] = create_model("Branch", leaf=("Leaf | None", None))
    for made in names.values():
        made.model_rebuild(_types_namespace=names)
    return names["Leaf"]


ALLOW, FORBID = ConfigDict(extra="allow"), ConfigDict(extra="forbid")
BY_NAME = ConfigDict(extra="forbid", populate_by_name=True)
Small = Annotated[int, Field(ge=0, le=10)]
Pets = Annotated[Cat | Dog, Field(discriminator="kind")]
MorePets = Annotated[Cat | Dog | Fish, Field(discriminator="kind")]
A = model(a=int)


def either(kind: Any, default: Any = ...) -> Any:
    """What is read by two names."""
    return Annotated[kind, Field(validation_alias=AliasChoices("b", "a"))], default


def contract_of(signature: str, types: dict[str, Any] | None = None) -> tuple[Contract, Any]:
    """The contract of a function, and the function as it is exposed: ``a: int, b: str = "x" -> int``."""
    parameters, _, result = signature.partition("->")
    names = {**NAMED, **globals(), **(types or {})}
    exec(f"def f({parameters}) -> {result or None}: ...", names)
    service = Service("test.v1.TestService")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bytes in a model, which go as text here
        service.expose(names["f"])
    return Contract.of(service), service.procedures["f"]


def takes(old: str, new: str) -> tuple[str, str]:
    return f"x: {old}", f"x: {new}"


def gives(old: str, new: str) -> tuple[str, str]:
    return f"-> {old}", f"-> {new}"


PAIRS = [
    (("a: int, /, src: str, dst: str", "a: int, /, dst: str, src: str"), BREAKING),
    (("a: int, /, width: int", "a: int, /, height: int, width: int = 1"), BREAKING),
    # parameters
    (("a: int", "a: int"), None),
    (("a: int, b: str", "a: int"), BREAKING),
    (("a: int", "a: int, b: str"), BREAKING),
    (("a: int", "a: int, b: str = ''"), COMPATIBLE),
    (("a: int", "b: str = '', a: int = 1"), BREAKING),
    (("a: int = 1", "a: int"), BREAKING),
    (("a: int", "a: int = 1"), COMPATIBLE),
    (("a: int = 1", "a: int = 2"), UNCLEAR),
    (("a: list[int] = Field(default_factory=list)", "a: list[int] = [1]"), UNCLEAR),
    (("a: int = Field(default_factory=int)", "a: int = 1"), UNCLEAR),
    (("a: int, b: int", "b: int, a: int"), BREAKING),
    (("a: int", "b: int"), BREAKING),
    (("a: int, /", "b: int, /"), None),
    (("a: int, /", "a: int"), None),
    (("a: int", "a: int, /"), BREAKING),
    (("a: int", "*, a: int"), BREAKING),
    (("*, a: int", "a: int"), None),
    (("*, a: int, b: str", "*, b: str, a: int"), None),
    (("a: int, /", "*a: int"), UNCLEAR),
    (("*a: int", "*a: float"), COMPATIBLE),
    (("*a: int", "a: int, /"), BREAKING),
    (("*a: int", "a: int = 0, /, *b: int"), UNCLEAR),
    (("*a: int", ""), BREAKING),
    (("", "*a: int"), COMPATIBLE),
    (("*, a: int", "**k: int"), UNCLEAR),
    (("a: int", "**k: int"), BREAKING),
    (("**k: int", "*, a: int = 0, **k: int"), UNCLEAR),
    (("**k: int", "*, a: str = '', **k: int"), BREAKING),
    (("**k: int", "**k: int | str"), COMPATIBLE),
    (("a: Annotated[int, Field(alias='n')]", "n: int"), None),
    (("a: int", "a: Annotated[int, Field(alias='n')]"), BREAKING),
    # scalars
    (takes("int", "float"), COMPATIBLE),
    (takes("float", "int"), BREAKING),
    (takes("int", "str"), BREAKING),
    (takes("int", "Decimal"), UNCLEAR),
    (takes("int", "Any"), COMPATIBLE),
    (takes("Any", "int"), BREAKING),
    (takes("bool", "int"), BREAKING),
    (takes("Small", "int"), COMPATIBLE),
    (takes("int", "Small"), BREAKING),
    (takes("Small", "Annotated[int, Field(gt=-1, lt=11)]"), COMPATIBLE),
    (takes("Annotated[float, Field(ge=0)]", "Annotated[float, Field(gt=0)]"), BREAKING),
    (takes("Annotated[int, Field(multiple_of=4)]", "Annotated[int, Field(multiple_of=2)]"), COMPATIBLE),
    (takes("Annotated[int, Field(multiple_of=2)]", "Annotated[int, Field(multiple_of=4)]"), UNCLEAR),
    (takes("Annotated[float, Field(multiple_of=0.5)]", "Annotated[float, Field(multiple_of=0.25)]"), UNCLEAR),
    (takes("str", "Annotated[str, Field(max_length=3)]"), BREAKING),
    (takes("Annotated[str, Field(max_length=3)]", "Annotated[str, Field(max_length=4)]"), COMPATIBLE),
    (takes("str", "Annotated[str, Field(pattern='^a')]"), BREAKING),
    (takes("Annotated[str, Field(pattern='^a')]", "str"), COMPATIBLE),
    (takes("Annotated[str, Field(pattern='^a')]", "Annotated[str, Field(pattern='^b')]"), UNCLEAR),
    (takes("UUID", "str"), COMPATIBLE),
    (takes("UUID", "Annotated[str, Field(max_length=36)]"), BREAKING),
    (takes("str", "UUID"), BREAKING),
    (takes("datetime", "str"), UNCLEAR),
    (takes("date", "datetime"), UNCLEAR),
    (takes("str", "SecretStr"), COMPATIBLE),
    (takes("bytes", "Annotated[str, Field(max_length=3)]"), BREAKING),
    (takes("AnyUrl", "str"), COMPATIBLE),
    (takes("Json[int]", "str"), None),
    (takes("str", "Json[int]"), UNCLEAR),
    # values
    (takes("Literal['a', 'b']", "Literal['a', 'b', 'c']"), COMPATIBLE),
    (takes("Literal['a', 'b']", "Literal['a']"), BREAKING),
    (takes("Literal[1]", "Literal[True]"), BREAKING),
    (takes("Literal['a', 'b']", "str"), COMPATIBLE),
    (takes("Literal['a', 'bb']", "Annotated[str, Field(max_length=1)]"), BREAKING),
    (takes("Literal[1, 2]", "Small"), COMPATIBLE),
    (takes("Literal[1, 20]", "Small"), BREAKING),
    (takes("Literal['a', 1, None]", "str | int | None"), COMPATIBLE),
    (takes("Color", "Colors"), COMPATIBLE),
    (takes("Colors", "Color"), BREAKING),
    (takes("Color", "Literal['red', 'blue']"), None),
    (takes("Level", "Levels"), COMPATIBLE),
    (takes("Level", "Literal[1, 2]"), UNCLEAR),
    (takes("Level", "int"), COMPATIBLE),
    (takes("Literal[1, 2]", "Level"), None),
    # unions
    (takes("int", "int | None"), COMPATIBLE),
    (takes("int | None", "int"), BREAKING),
    (takes("int | str", "str | int"), None),
    (takes("int | str", "str | int | None"), COMPATIBLE),
    (takes("int | str", "float | str"), COMPATIBLE),
    (takes("Cat | Dog", "Cat | Dog | Fish"), COMPATIBLE),
    (takes("Cat | Dog", "Cat"), BREAKING),
    (takes("Pets", "MorePets"), COMPATIBLE),
    (takes("MorePets", "Pets"), BREAKING),
    (takes("Pets | None", "MorePets | None"), COMPATIBLE),
    (takes("Pets", "Cat | Dog"), None),
    (takes("Cat | Dog", "Pets"), None),
    (takes("Fish", "MorePets"), UNCLEAR),
    (takes("Cat", "MorePets"), COMPATIBLE),
    # arrays
    (takes("list[int]", "list[float]"), COMPATIBLE),
    (takes("list[int]", "set[int]"), UNCLEAR),
    (takes("set[int]", "list[int]"), COMPATIBLE),
    (takes("Annotated[set[int], Field(max_length=2)]", "Annotated[list[int], Field(max_length=2)]"), UNCLEAR),
    (takes("list[int]", "Annotated[list[int], Field(max_length=2)]"), BREAKING),
    (takes("tuple[int, int]", "tuple[int, int, int]"), BREAKING),
    (takes("tuple[int, int]", "tuple[int, str]"), BREAKING),
    (takes("tuple[int, int]", "list[float]"), COMPATIBLE),
    (takes("tuple[int, int]", "tuple[int, ...]"), COMPATIBLE),
    (takes("tuple[int, ...]", "tuple[int, int]"), BREAKING),
    (takes("tuple[int, ...]", "list[int]"), None),
    (takes("Pair", "Pair3"), COMPATIBLE),
    (takes("Pair3", "Pair"), BREAKING),
    # objects
    (takes("dict[str, int]", "dict[str, float]"), COMPATIBLE),
    (takes("dict[str, int]", "dict[str, str]"), BREAKING),
    (takes("dict[Literal['a'], int]", "dict[str, int]"), None),
    (takes("dict[Literal['a'], int]", "dict[Literal['a', 'b'], int]"), None),
    (takes("dict[Literal['a', 'b'], int]", "dict[Literal['a'], int]"), BREAKING),
    (takes("dict[str, int]", "dict[Literal['a'], int]"), UNCLEAR),
    (takes("dict[Annotated[str, Field(pattern='^a')], int]", "dict[str, int]"), COMPATIBLE),
    (takes("dict[str, int]", "dict[Annotated[str, Field(pattern='^a')], int]"), UNCLEAR),
    (takes("A", "model(a=int, b=(int, 1))"), COMPATIBLE),
    (takes("A", "model(a=int, b=int)"), BREAKING),
    (takes("model(a=int, b=int)", "A"), UNCLEAR),
    (takes("model(a=int, b=int)", "model('M', FORBID, a=int)"), BREAKING),
    (takes("model(a=int, b=int)", "model('M', ALLOW, a=int)"), COMPATIBLE),
    (takes("model('M', ALLOW, a=int)", "A"), UNCLEAR),
    (takes("model('M', ALLOW, a=int)", "model('M', FORBID, a=int)"), BREAKING),
    (takes("model('M', ALLOW, a=int)", "model('M', ALLOW, a=int, b=(int, 1))"), BREAKING),
    (takes("A", "model('M', FORBID, a=int)"), None),
    (takes("A", "dict[str, int]"), COMPATIBLE),
    (takes("dict[str, int]", "A"), BREAKING),
    (takes("dict[str, int]", "model(a=(int, 1))"), UNCLEAR),
    (takes("model(a=(int, 1))", "model(a=(int, 2))"), UNCLEAR),
    (takes("model(a=(int, 1))", "A"), BREAKING),
    (takes("A", "model(a=(int, 1))"), COMPATIBLE),
    (takes("Partial", "Whole"), BREAKING),
    (takes("Whole", "Partial"), COMPATIBLE),
    (takes("A", "model('Renamed', a=int)"), None),
    (takes("list[A] | A | None", "list[model('Renamed', a=int)] | model('Renamed', a=int) | None"), None),
    (takes("tree(int)", "tree(int, 'Bush')"), None),
    (takes("tree(float)", "tree(int, 'Bush')"), BREAKING),
    (takes("list[A]", "list[model(a=float)]"), COMPATIBLE),
    (takes("tree(int)", "tree(float)"), COMPATIBLE),
    (takes("tree(float)", "tree(int)"), BREAKING),
    (takes("tree(int)", "tree(int, more=(int, 1))"), COMPATIBLE),
    (takes("tree(int)", "tree(int, more=(int, ...))"), BREAKING),
    (takes("mutual(int)", "mutual(float)"), COMPATIBLE),
    (takes("mutual(float)", "mutual(int)"), BREAKING),
    # other names of a field
    (takes("A", "model(b=either(int))"), COMPATIBLE),
    (takes("A", "model(b=either(float, 1.5))"), COMPATIBLE),
    (takes("A", "model(b=either(str))"), BREAKING),
    (takes("model(a=(int, 1))", "model(b=either(int))"), BREAKING),
    (takes("A", "model('M', FORBID, b=either(int))"), COMPATIBLE),
    (takes("A", "model('M', BY_NAME, a=(int, Field(alias='b')))"), COMPATIBLE),
    (takes("model(a=(int, 1), b=(str, ''))", "model('M', ALLOW, b=either(str, ''))"), BREAKING),
    (takes("A", "model(a=int, b=either(str, ''))"), BREAKING),
    (takes("model(b=either(int))", "model(b=int)"), UNCLEAR),
    (takes("model(b=either(int))", "model('M', FORBID, b=either(int))"), None),
    (gives("A", "model(b=either(int))"), BREAKING),
    (gives("model(b=either(int))", "A"), BREAKING),
    # results
    (gives("dict[str, tree(int) | None]", "dict[str, tree(int, 'Bush') | None]"), None),
    (gives("int", "Small"), COMPATIBLE),
    (gives("Small", "int"), BREAKING),
    (gives("float", "int"), COMPATIBLE),
    (gives("Annotated[Decimal, Field(ge=1)]", "Decimal"), BREAKING),
    (gives("Decimal", "Annotated[Decimal, Field(ge=1)]"), COMPATIBLE),
    (gives("int", "float"), BREAKING),
    (gives("float", "Decimal"), BREAKING),
    (gives("int | None", "int"), COMPATIBLE),
    (gives("int", "int | None"), BREAKING),
    (gives("str", "datetime"), COMPATIBLE),
    (gives("datetime", "str"), BREAKING),
    (gives("str", "SecretStr"), UNCLEAR),
    (gives("Colors", "Color"), COMPATIBLE),
    (gives("Color", "Colors"), BREAKING),
    (gives("Level", "Literal[1, 2]"), None),
    (gives("str", "Literal['a', 'b']"), COMPATIBLE),
    (gives("Cat | Dog", "Cat"), COMPATIBLE),
    (gives("Cat | Dog", "Cat | Dog | Fish"), BREAKING),
    (gives("MorePets", "Pets"), COMPATIBLE),
    (gives("Pets", "MorePets"), BREAKING),
    (gives("MorePets", "Cat"), COMPATIBLE),
    (gives("A", "model(a=int, b=int)"), COMPATIBLE),
    (gives("model(a=int, b=int)", "A"), BREAKING),
    (gives("model(a=int, b=(int, 1))", "A"), BREAKING),
    (gives("A", "model(a=(int, 1))"), BREAKING),
    (gives("model(a=(int, 1))", "A"), COMPATIBLE),
    (gives("Whole", "Partial"), BREAKING),
    (gives("Partial", "Whole"), COMPATIBLE),
    (gives("model('M', FORBID, a=int)", "model('M', FORBID, a=int, b=int)"), BREAKING),
    (gives("model('M', ALLOW, a=int)", "model('M', ALLOW, a=int, b=int)"), COMPATIBLE),
    (gives("list[float]", "list[int]"), COMPATIBLE),
    (gives("set[int]", "list[int]"), UNCLEAR),
    (gives("list[int]", "set[int]"), COMPATIBLE),
    (gives("tuple[int, ...]", "tuple[int, int]"), COMPATIBLE),
    (gives("tuple[int, int]", "tuple[int, ...]"), BREAKING),
    (gives("dict[str, int]", "A"), COMPATIBLE),
    (gives("dict[str, float]", "dict[str, int]"), COMPATIBLE),
    (gives("Annotated[list[int], Field(max_length=5)]", "Annotated[list[int], Field(max_length=3)]"), COMPATIBLE),
    (gives("Annotated[list[int], Field(max_length=3)]", "Annotated[list[int], Field(max_length=5)]"), BREAKING),
    (gives("tree(float)", "tree(int)"), COMPATIBLE),
    (gives("tree(int)", "tree(float)"), BREAKING),
    (gives("tree(int)", "tree(int, more=(int, 1))"), COMPATIBLE),
    (gives("Any", "int"), COMPATIBLE),
    (gives("int", "Any"), BREAKING),
]


def verdict(old: Contract, new: Contract) -> Severity | None:
    """The worst that is found; None where there is nothing."""
    return next((finding.severity for finding in evolution(old, new)), None)


def check(data, old, new, tries: int) -> None:
    """Look for a counterexample: what the old function takes, and what the new one gives."""
    (before, was), (after, is_now) = old, new
    function = before.functions[0]
    for _ in range(tries):
        call = data.draw(calls(function, before.definitions))
        try:
            was.arguments.load(call)
        except ServiceError:
            continue
        is_now.arguments.load(call)
    for _ in range(tries):
        schema = after.functions[0].value
        told = to_json(data.draw(json_values(schema, dict(after.definitions), lax=True)))
        try:
            sent = is_now.value.dump(is_now.value.load(told))
            is_now.value.load(sent)  # else nobody can read it, whatever has changed: NaN goes out as null, say
        except (ValidationError, PydanticSerializationError):
            continue
        was.value.load(sent)


@st.composite
def calls(draw, function, definitions) -> bytes:
    """The JSON of a call, by position or by name."""
    value = lambda parameter: draw(json_values(parameter.schema, dict(definitions), lax=True))  # noqa: E731
    by_position = draw(st.booleans())
    array: list[Any] = []
    named: dict[str, Any] = {}
    for parameter in function.parameters:
        kind = parameter.kind.name
        if kind == "VAR_POSITIONAL":
            array += [value(parameter) for _ in range(draw(st.integers(0, 2)))]
        elif kind == "VAR_KEYWORD":
            named |= {key: value(parameter) for key in draw(st.sets(st.sampled_from("abxyz")))}
        elif parameter.required or draw(st.booleans()):
            array.append(value(parameter))
            named[parameter.alias or parameter.name] = array[-1]
        else:
            by_position = False  # nothing can be left out before something
    return to_json(array if by_position else named)


@pytest.mark.parametrize(("pair", "expected"), PAIRS, ids=[f"{old} / {new}" for (old, new), _ in PAIRS])
def test_a_change_is_what_pydantic_makes_of_it(pair, expected):
    old, new = contract_of(pair[0]), contract_of(pair[1])
    assert verdict(old[0], new[0]) == expected, evolution(old[0], new[0])

    @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def judged(data):
        check(data, old, new, tries=3)

    if expected in (None, COMPATIBLE):
        judged()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_nothing_that_is_called_compatible_has_a_counterexample(data):
    types = data.draw(type_pairs())
    try:
        sides = [[contract_of(signature, {"T": one}) for one in types] for signature in ("x: T", "-> T")]
    except ExposeError:
        return
    for old, new in sides:
        if verdict(old[0], new[0]) in (None, COMPATIBLE):
            check(data, old, new, tries=10)


@pytest.mark.parametrize(
    ("was", "is_now", "severity"), [(True, False, BREAKING), (False, True, COMPATIBLE), (True, True, None)]
)
def test_what_is_no_longer_idempotent_breaks_clients_that_call_again(was, is_now, severity):
    def contract(idempotent: bool) -> Contract:
        service = Service("shop.v1.ShopService")
        service.expose(name="place", idempotent=idempotent)(lambda: 1)
        return Contract.of(service)

    findings = evolution(contract(was), contract(is_now))
    assert [finding.severity for finding in findings] == ([] if severity is None else [severity])
    assert all("idempotent" in finding.sentence for finding in findings)


def test_a_class_that_is_renamed_and_changed_has_changed_and_no_more():
    old, new = contract_of("x: tree(int)")[0], contract_of("x: tree(int, 'Bush', more=(int, 1))")[0]
    assert [finding.path for finding in evolution(old, new)] == ["x.more"]


def test_a_class_under_the_name_that_another_had_is_compared_by_what_it_is():
    def holder(one: str, two: str) -> Contract:
        return contract_of(f"x: model('Holder', one=model({one}) | None, two=model({two}) | None)")[0]

    old = holder("'A', a=int", "'B', b=int")
    assert evolution(old, holder("'B', a=int", "'A', b=int")) == []
    assert [one.path for one in evolution(old, holder("'B', a=int", "'A', b=str")) if one.severity is BREAKING] == [
        "x.two<A>.b"
    ]


class Order(BaseModel):
    color: str = "red"


class Renamed(BaseModel):
    colour: str = Field("red", validation_alias=AliasChoices("colour", "color"))


class Both(Renamed):
    @computed_field
    def color(self) -> str:
        return self.colour


def test_the_recipe_for_renaming_a_field_breaks_nobody():
    old, renamed, both, new = (
        contract_of(f"x: {one} -> {one}")[0] for one in ("Order", "Renamed", "Both", "model(colour=(str, 'red'))")
    )
    assert [one.path for one in evolution(old, renamed) if one.severity is not COMPATIBLE] == ["-> .color"]
    assert (verdict(old, both), verdict(both, both)) == (COMPATIBLE, None)
    assert {one.path: one.severity for one in evolution(both, new)} == {"-> .color": BREAKING, "x.colour": UNCLEAR}
    assert renamed.fingerprint(renamed.functions[0]) == new.fingerprint(new.functions[0])


@pytest.mark.once  # early releases of Pydantic leave the alias of a parameter out
def test_a_parameter_is_renamed_with_its_old_name_beside_the_new_one():
    old, both, new = (contract_of(one)[0] for one in ("a: int", "b: either(int)[0]", "b: int"))
    assert (verdict(old, both), verdict(both, new), verdict(old, new)) == (COMPATIBLE, UNCLEAR, BREAKING)
    assert verdict(old, contract_of("b: either(str)[0]")[0]) is BREAKING
    assert verdict(contract_of("*, a: int, b: int")[0], contract_of("*, b: either(int)[0]")[0]) is BREAKING


def said_of(
    old: dict[str, Any], new: dict[str, Any], names: tuple[str, str] = ("shop.v1.ShopService",) * 2
) -> list[str]:
    """What breaks from some functions, by name, to others."""
    contracts = []
    for name, functions in zip(names, (old, new), strict=True):
        service = Service(name)
        for called, function in functions.items():
            service.expose(name=called)(function)
        contracts.append(Contract.of(service))
    return [f"{one.function} {one.sentence}" for one in evolution(*contracts) if one.severity is BREAKING]


def test_a_function_is_the_new_name_of_one_at_most():
    def text() -> str: ...
    def number() -> int: ...

    gone, here = "is gone: all its callers fail; keep it until nobody calls it", {"here": number}
    assert said_of({"a": text, **here}, {"b": text, **here}) == [
        "a is called b now: all its callers fail; expose it under both names"
    ]
    assert said_of({"a": text, "b": text, **here}, {"c": text, **here}) == [f"a {gone}", f"b {gone}"]
    assert said_of({"a": text, **here}, {"b": text, "c": text, **here}) == [f"a {gone}"]


def test_another_service_is_told_from_one_that_was_renamed():
    def text() -> str: ...

    names = ("demo.v1.DemoService", "shop.v1.ShopService")
    first, second = said_of({"a": text}, {"b": text}, names)
    assert (
        first
        == " demo.v1.DemoService is another service, and has no function of this one: compare what belongs together"
    )
    assert second.startswith("a is gone: ")
    assert said_of({"a": text}, {"a": text}, names) == [
        " the service was demo.v1.DemoService: all callers of that fail; serve it under its old name, too"
    ]


@pytest.mark.parametrize(
    ("was", "is_now", "severities"), [(50, 20, [UNCLEAR]), (20, 50, []), (None, 20, []), (20, None, [])]
)
def test_larger_replies_break_nobody(was, is_now, severities):
    def contract(reply_bytes: int | None) -> Contract:
        service = Service("shop.v1.ShopService")
        service.expose(name="place", reply_bytes=reply_bytes)(lambda: 1)
        return Contract.of(service)

    assert [finding.severity for finding in evolution(contract(was), contract(is_now))] == severities
