"""What a caller reads about bad arguments."""

import inspect
from base64 import b64encode
from typing import Annotated, Any, Literal

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, StringConstraints, model_validator
from pydantic_core import to_json

from ephaptic_grpc import CallError, Service, ServiceError, connect_sync
from ephaptic_grpc.arguments import Arguments
from ephaptic_grpc.errors import BadArgumentsError, status_of
from ephaptic_grpc.testing import serving
from ephaptic_grpc.v1.payload_pb2 import Payload

service = Service("bad.v1.BadService")


class Address(BaseModel):
    city: str
    code: Annotated[str, Field(pattern=r"^\d+$")] = "1"


class User(BaseModel):
    addresses: list[Address]
    password: Annotated[str, Field(max_length=6)] = ""


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Login(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    password: str

    @model_validator(mode="after")
    def _differ(self) -> "Login":
        raise ValueError(f"{self!r} is no good login")


def _says_so(value: Any) -> Any:
    raise ValueError(f"{value} is not allowed")


def _says_its_repr(value: Any) -> Any:
    raise ValueError(f"{value!r} is not allowed")


def _is_not_there(value: Any) -> Any:
    raise ServiceError(grpc.StatusCode.NOT_FOUND, "no such thing")


@service.expose
def put(user: User, n: int = 0) -> int:
    return n


@service.expose
def pet(animal: Annotated[Cat | Dog, Field(discriminator="kind")]) -> None: ...


@service.expose
def untagged(animal: Cat | Dog | int) -> None: ...


@service.expose
def numbers(values: list[int]) -> None: ...


@service.expose
def mapping(values: dict[str, int]) -> None: ...


@service.expose
def positions(a: int, b: str = "", /, *rest: int) -> None: ...


@service.expose
def named(a: int, **rest: int) -> None: ...


@service.expose
def embedded(values: Json[list[int]], n: int = 0) -> None: ...


@service.expose
def said(value: Annotated[str, AfterValidator(_says_so)]) -> None: ...


@service.expose
def shown(value: Annotated[str, AfterValidator(_says_its_repr)]) -> None: ...


@service.expose
def stripped(value: Annotated[str, StringConstraints(strip_whitespace=True), AfterValidator(_says_so)]) -> None: ...


@service.expose
def folded(value: Annotated[str, StringConstraints(to_lower=True), AfterValidator(_says_so)]) -> None: ...


@service.expose
def sized(size: Literal["small", "large"]) -> None: ...


@service.expose
def login(login: Login) -> None: ...


@service.expose
def looked_up(value: Annotated[str, AfterValidator(_is_not_there)]) -> None: ...


@pytest.fixture(scope="module")
def served():
    with serving(service) as served:
        yield served


@pytest.fixture(scope="module")
def client(served):
    return served.client


@pytest.fixture(scope="module")
def untyped(served):
    with connect_sync(served.address, service.name) as client:
        yield client


def refusal(call, *args, **kwargs) -> CallError:
    with pytest.raises(CallError) as caught:
        call(*args, **kwargs)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    return caught.value


def violations(error: CallError) -> list[tuple[str, str]]:
    (detail,) = error.details
    assert isinstance(detail, BadRequest)
    return [(violation.field, violation.description) for violation in detail.field_violations]


def fields(error: CallError) -> list[str]:
    return [field for field, _ in violations(error)]


BAD_USER = {"addresses": [{"city": "Ulm"}, {"city": 3, "code": "x"}], "password": "hunter2 hunter2"}


def test_it_says_where_and_what_was_expected(client):
    error = refusal(client.put, user=BAD_USER, n="x")
    assert fields(error) == ["user.addresses[1].city", "user.addresses[1].code", "user.password", "n"]
    assert error.message == "bad arguments: user.addresses[1].city: Input should be a valid string (and 3 more)"


def test_a_call_by_position_gets_the_same_answer(untyped):
    by_position, by_name = refusal(untyped.put, BAD_USER, "x"), refusal(untyped.put, user=BAD_USER, n="x")
    assert violations(by_position) == violations(by_name)


@pytest.mark.parametrize(
    ("args", "field"),
    [([], "a"), (["x"], "a"), ([1, 2], "b"), ([1, "b", "x"], "rest[0]"), ([1, "b", 1, "x"], "rest[1]")],
)
def test_positions_go_by_the_names_of_parameters(untyped, args, field):
    assert fields(refusal(untyped.positions, *args)) == [field]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "a"),
        ({"a": "x"}, "a"),
        ({"a": 1, "b": "x"}, "b"),
        ({"a": 1, "b c": "x"}, "['b c']"),
        ({"a": 1, "b": None, "ö": None}, "b"),
    ],
)
def test_further_names_are_their_own(untyped, arguments, field):
    assert fields(refusal(untyped.named, **arguments))[0] == field


def test_arguments_that_a_function_does_not_take(untyped):
    assert violations(refusal(untyped.put, {"addresses": []}, 1, 2)) == [("[2]", "Unexpected positional argument")]
    assert violations(refusal(untyped.numbers, values=[], more=1)) == [("more", "Unexpected keyword argument")]


@pytest.mark.parametrize(
    ("animal", "field", "description"),
    [
        ({"kind": "cat", "lives": "many"}, "animal.lives", "valid integer"),
        ({"kind": "cat"}, "animal.lives", "Field required"),
        ({"kind": "dog", "tricks": ["sit", 3]}, "animal.tricks[1]", "valid string"),
        ({}, "animal", "discriminator 'kind'"),
        (
            {"kind": "ca"},
            "animal",
            "Input tag '…' found using 'kind' does not match any of the expected tags: 'cat'",
        ),
        ({"kind": "' found using "}, "animal", "Input tag '…' found using 'kind' does not"),
        (3, "animal", "object"),
    ],
)
def test_a_path_is_that_of_the_input_without_the_members_of_a_union(client, animal, field, description):
    ((found, text),) = violations(refusal(client.pet, animal))
    assert found == field
    assert description in text


def test_every_member_of_a_plain_union_says_what_it_expected(client):
    assert set(fields(refusal(client.untagged, {"kind": "cat"}))) == {
        "animal",
        "animal.kind",
        "animal.lives",
        "animal.tricks",
    }


def test_at_most_16_are_told_of_many(client):
    error = refusal(client.numbers, ["x"] * 17)
    assert fields(error) == [f"values[{index}]" for index in range(16)]
    assert error.message.endswith("(and 16 more)")


def test_200_000_errors_are_counted_instead_of_rendered(client):
    error = refusal(client.numbers, ["x"] * 200_000)
    assert error.message == "bad arguments: 200000 values don't fit"
    assert error.details == ()


def test_a_long_key_is_shortened(client):
    ((field, _),) = violations(refusal(client.mapping, {"k" * 100_000: "x"}))
    assert field == "values." + "k" * 70 + "…"


def test_bad_json_says_where(served):
    for json, where in [
        ("{", "line 1 column 1"),
        ('{"a": 1}{}', "line 1 column 9"),
        (" ", "EOF"),
        ('["\\ud800"]', "column"),
    ]:
        error = refusal(raw(served, "Numbers"), json)
        assert "Invalid JSON" in error.message
        assert where in error.message
        assert fields(error) == [""]


@pytest.mark.parametrize("json", ["3", "null", '"text"', "true"])
def test_arguments_are_an_array_or_an_object(served, json):
    error = refusal(raw(served, "Numbers"), json)
    assert error.message == "bad arguments: Arguments must be an array or an object"


def test_json_inside_of_json_has_a_path(served):
    error = refusal(raw(served, "Embedded"), '{"values": "no json", "n": "x"}')
    assert fields(error) == ["values", "n"]


def test_a_float_that_is_no_number_is_refused_rather_than_none(serve):
    other = Service("bad.v1.FloatService")

    @other.expose
    def half(x: float | None) -> float | None:
        return x

    client = serve(other).client
    for value in (float("nan"), float("inf")):
        assert "finite number" in refusal(client.half, value).message


SECRETS = [
    "hunter2 hunter2",
    "hunter2\\hunter2",
    "hunter2'\n\"",
    "hunter2\u2028é",
    "  hunter2\t",
    "HUNTER2",
    "hunter2" * 1000,
]


@pytest.mark.parametrize("secret", SECRETS, ids=repr)
@pytest.mark.parametrize("name", ["said", "shown", "stripped", "folded"])
def test_what_a_validator_says_does_not_repeat_the_input(client, name, secret):
    error = refusal(getattr(client, name), secret)
    assert "hunter2" not in f"{error.message} {error.details}".lower()
    assert "is not allowed" in error.message


@pytest.mark.parametrize("name", ["said", "shown", "stripped", "folded"])
def test_nor_a_short_one_which_stays_where_it_is_part_of_a_word(client, name):
    ((_, text),) = violations(refusal(getattr(client, name), "123"))
    assert text in ("Value error, … is not allowed", "Value error, '…' is not allowed")
    ((_, text),) = violations(refusal(getattr(client, name), "all"))
    assert text.endswith(" is not allowed")


def test_what_is_expected_is_told_whole(untyped):
    for size in ("larg", "small or", "e", "'small'"):
        assert violations(refusal(untyped.sized, size)) == [("size", "Input should be 'small' or 'large'")]


def test_nor_does_what_it_says_of_a_whole_model(client):
    error = refusal(client.login, {"name": "Ada Lovelace", "password": "hunter2 hunter2"})
    assert "no good login" in error.message
    for secret in ("hunter2", "Lovelace"):
        assert secret not in f"{error.message} {error.details}"


@pytest.mark.parametrize(
    "bad",
    [
        {"user": {"addresses": "hunter2", "password": ["hunter2"]}, "n": "hunter2"},
        {"user": "hunter2"},
        {"user": {"addresses": [{"city": "x", "code": "hunter2"}], "password": "hunter2hunter2"}},
        {"user": {"addresses": {"hunter2": "hunter2"}}},
    ],
)
def test_nor_do_pydantics_own_words(untyped, bad):
    error = refusal(untyped.put, **bad)
    assert "hunter2" not in f"{error.message} {error.details}"


def test_a_validator_can_give_a_status_of_its_own(client):
    with pytest.raises(CallError, match="NOT_FOUND: no such thing"):
        client.looked_up("x")


def raw(served, rpc):
    """A call with any text in the place of the arguments."""
    method = served.channel.unary_unary(f"/{service.name}/{rpc}")

    def call(json):
        try:
            method(Payload(json=json).SerializeToString())
        except grpc.RpcError as error:
            raise CallError.of(error) from None

    return call


@pytest.mark.parametrize("key", ["a", "é", "中", "😀", "\x01", "%"])
def test_what_a_caller_is_told_takes_4_kb_at_most(key):
    """As it is on the wire, for a caller that knows an older contract."""

    def refuses(_: int) -> int:
        raise ValueError(key * 300)

    def takes(numbers: dict[str, Annotated[int, AfterValidator(refuses)]]) -> None: ...

    arguments = Arguments(inspect.signature(takes))
    for value in (1, "x"):
        json = to_json({"numbers": {f"{number}{key * 200}": value for number in range(40)}})
        with pytest.raises(BadArgumentsError) as caught:
            arguments.load(json)
        status = status_of(caught.value.under("0" * 64, "1" * 16), "/x")
        message = status.message.encode()
        sizes = [3 if byte < 0x20 or byte > 0x7E or byte == 0x25 else 1 for byte in message]
        ((name, details),) = status.trailing_metadata
        assert len("grpc-message") + sum(sizes) + len(name) + len(b64encode(details)) <= 4096
        assert caught.value.details[0].field_violations
