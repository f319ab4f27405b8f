"""Classes that Pydantic writes in one way and reads in another, as a client that has them meets them."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Json,
    RootModel,
    SerializeAsAny,
    computed_field,
    field_serializer,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticSerializationError, ValidationError
from typing_extensions import TypedDict

from ephaptic_grpc import Service
from ephaptic_grpc.arguments import Arguments
from ephaptic_grpc.values import Value

IN_BASE64 = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class Login(BaseModel):
    user: str
    password: str = Field("default", exclude=True)


class Account(BaseModel):
    model_config = IN_BASE64
    name: str
    password_hash: bytes = Field(exclude=True)

    @model_validator(mode="after")
    def has_a_name(self) -> "Account":
        assert self.name
        return self


class Total(BaseModel):
    model_config = ConfigDict(extra="forbid")
    net: int

    @computed_field(alias="inAll")
    @property
    def gross(self) -> int:
        return self.net * 2


class OpenTotal(Total):
    model_config = ConfigDict(extra="allow")


class Renamed(BaseModel):
    written: str = Field("", serialization_alias="userName")
    read: str = Field("", validation_alias="read_as")
    both: int = Field(0, validation_alias=AliasChoices(AliasPath("in", "side"), "b1", "b2"), serialization_alias="b3")


class Swapped(BaseModel):
    a: int = Field(serialization_alias="b")
    b: int = Field(serialization_alias="a")


class Public(BaseModel):
    id: int = Field(0, exclude=True)
    public_id: int = Field(serialization_alias="id")


class Plain(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, serialize_by_alias=False, validate_by_name=True, validate_by_alias=False
    )
    my_name: str


class Settings(BaseModel):
    raw: Json[list[int]]
    any_raw: Json[Any] = Field("null", validate_default=True)
    own: Json[dict[str, int]] = Field("{}", validate_default=True)

    @field_serializer("own")
    def own_text(self, own: dict[str, int]) -> str:
        return "{" + ",".join(f'"{key}":{value}' for key, value in own.items()) + "}"


class WithoutNone(BaseModel):
    name: str = Field(validation_alias="read_as", serialization_alias="writtenAs")
    secret: str | None = Field(exclude=True)
    note: str | None = None

    @model_serializer(mode="wrap")
    def without_none(self, handler: Any) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class Cat(BaseModel):
    kind: Literal["cat"] = Field(validation_alias="type", serialization_alias="petType")
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = Field(validation_alias="type", serialization_alias="petType")
    friends: list["Pet"] = []
    collar: int = Field(0, exclude=True)


Pet = Annotated[Cat | Dog, Discriminator("kind")]


class WithInit(BaseModel):
    name: str = Field("", serialization_alias="userName")

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)


class Other(BaseModel):
    name: str = Field(validation_alias="n")
    size: int = Field(0, exclude=True)


class Tree(BaseModel):
    name: str = Field(serialization_alias="label")
    below: list["Tree"] = []


@dataclass
class Point:
    x: Annotated[int, Field(serialization_alias="left")]
    secret: Annotated[str, Field(exclude=True)] = field(default="s", kw_only=True)


class Film(TypedDict, total=False):
    title: Annotated[str, Field(serialization_alias="filmTitle")]
    year: Annotated[int, Field(exclude=True)]


def mirrored(annotation: Any) -> tuple[Arguments, Value]:
    parameter = inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)
    return Arguments(inspect.Signature([parameter])), Value(annotation)


CAT = Cat(type="cat")
DOG = Dog(type="dog", friends=[CAT, Dog(type="dog")])


@pytest.mark.parametrize(
    ("annotation", "sent", "wire"),
    [
        (Total, Total(net=1), b'{"net":1,"inAll":2}'),
        (OpenTotal, OpenTotal(net=1, more=3), b'{"net":1,"more":3,"inAll":2}'),
        (Total | dict[str, int], {"net": 1, "gross": 3}, b'{"net":1,"gross":3}'),
        (Renamed, Renamed(written="w", read_as="r", b2=3), b'{"userName":"w","read":"r","b3":3}'),
        (Swapped, Swapped(a=1, b=2), b'{"b":1,"a":2}'),
        (Plain, Plain(my_name="a"), b'{"myName":"a"}'),
        (Settings, Settings(raw="[1]", any_raw='{"a":1}', own='{"b":2}'), None),
        (Json[list[int]] | None, [1], None),
        (dict[str, list[Pet]], {"p": [CAT, DOG]}, None),
        (Tree, Tree(name="a", below=[Tree(name="b")]), b'{"label":"a","below":[{"label":"b","below":[]}]}'),
        (WithInit, WithInit(name="a"), b'{"userName":"a"}'),
        (list[Swapped | Other], [Swapped(a=1, b=2), Other(n="b")], b'[{"b":1,"a":2},{"name":"b"}]'),
        (SerializeAsAny[Other], Other(n="b"), b'{"name":"b"}'),
        (RootModel[dict[str, Other]], RootModel[dict[str, Other]]({"a": Other(n="b")}), b'{"a":{"name":"b"}}'),
        (list[Point], [Point(1)], b'[{"left":1}]'),
        (Film, Film(title="a"), b'{"filmTitle":"a"}'),
    ],
)
def test_what_is_declared_arrives(annotation, sent, wire):
    arguments, value = mirrored(annotation)
    assert arguments.load(arguments.dump((sent,), {}))[1] == {"x": sent}
    written = value.dump("[1]" if sent == [1] else sent)  # Json is given as text
    assert wire is None or written == wire
    received = value.load(written)
    assert received == sent
    assert type(received) is type(sent)
    assert value.load_all(b"[" + written + b"]") == [sent]
    if isinstance(sent, OpenTotal):
        assert (received.model_extra, received.model_fields_set) == ({"more": 3}, {"net", "more"})


def test_what_is_excluded_goes_to_the_function_and_never_comes_back(serve):
    service = Service("account.v1.AccountService")

    @service.expose
    def password(login: Login) -> str:
        return login.password

    @service.expose
    def account(account: Account) -> Account:
        assert account.password_hash == b"\xff"
        return account

    @service.expose
    def accounts() -> Iterator[Account]:
        yield Account(name="a", password_hash=b"h")
        yield Account(name="b", password_hash=b"h")

    @service.expose
    def public() -> Public:
        return Public(id=7, public_id=8)

    @service.expose
    def without_none(it: WithoutNone) -> WithoutNone:
        assert it.secret == "s"
        return it

    served = serve(service)
    assert served.client.password(Login(user="u", password="hunter2")) == "hunter2"
    back = served.client.account(Account(name="a", password_hash=b"\xff"))
    assert (back.name, back.model_fields_set, hasattr(back, "password_hash")) == ("a", {"name"}, False)
    assert repr(back) == "Account(name='a')"
    assert [one.name for one in served.client.accounts()] == ["a", "b"]
    assert served.client.public() == Public(id=0, public_id=8)
    answer = served.client.without_none(WithoutNone(read_as="a", secret="s"))
    assert (answer.name, answer.note, hasattr(answer, "secret")) == ("a", None, False)
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT: .*password_hash: Field required"):
        served.client.account(back)


@pytest.mark.once  # Pydantic 2.11 has no exclude_if
def test_what_is_sometimes_excluded():
    class Measured(BaseModel):
        model_config = IN_BASE64
        seconds: int = Field(exclude_if=lambda seconds: seconds == 0)
        data: bytes = Field(exclude_if=lambda data: not data)
        unit: str = Field(None, exclude_if=lambda unit: unit is None)  # type: ignore[arg-type]

    arguments, value = mirrored(Measured)
    nothing, all_of_it = Measured(seconds=0, data=b""), Measured(seconds=1, data=b"\xff", unit="s")
    for sent in (nothing, all_of_it):
        assert arguments.load(arguments.dump((sent,), {}))[1] == {"x": sent}
    assert value.load(value.dump(nothing)).model_fields_set == set()
    assert value.load(value.dump(all_of_it)) == all_of_it


def test_a_validator_that_asks_for_what_is_not_sent_is_named():
    class Signup(BaseModel):
        password: str
        again: str = Field(exclude=True)

        @model_validator(mode="after")
        def is_the_same(self) -> "Signup":
            assert self.password == self.again
            return self

    _, value = mirrored(Signup)
    with pytest.raises(ValidationError, match=r"a validator of its class asks for what isn't sent: .*'again'"):
        value.load(value.dump(Signup(password="a", again="a")))


def test_what_is_still_wrong_is_still_refused():
    _, value = mirrored(Total)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        value.load(b'{"net":1,"inAll":2,"more":3}')
    _, value = mirrored(Account)
    with pytest.raises(ValidationError, match="Assertion failed"):
        value.load(b'{"name":""}')


def test_a_field_that_can_only_be_read_from_inside_of_another_is_an_error_where_it_is_sent():
    class Inside(BaseModel):
        name: str = Field("", validation_alias=AliasPath("user", "name"))

    arguments, value = mirrored(Inside)
    assert value.load(value.dump(Inside(user={"name": "a"}))).name == "a"
    with pytest.raises(PydanticSerializationError, match=r"^x: .*Inside.name is read from inside of another field"):
        arguments.dump((Inside(user={"name": "a"}),), {})


def test_other_classes_cost_nothing(shapes):
    for procedure in shapes.procedures.values():
        assert procedure.value._reading is procedure.value.schema
