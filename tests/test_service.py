import functools
import operator
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import AliasPath, BaseModel, ConfigDict, Field

from ephaptic_grpc import ExposeError, Server, Service, default_service, expose


@pytest.fixture
def service():
    return Service("app.v1.AppService")


class Opaque:
    pass


class Room:
    def enter(self, name: str) -> str:
        return name

    def __call__(self) -> int:
        return 1


def one(a: int) -> int:
    return a


def test_the_function_itself_comes_back(service):
    assert service.expose(one) is one
    assert service.expose(name="other")(one) is one


def test_procedures_are_listed_in_the_order_of_exposure(service):
    for name in ("zebra", "apple", "mango"):
        service.expose(name=name)(one)
    assert list(service.procedures) == ["zebra", "apple", "mango"]
    assert [p.path for p in service.procedures.values()] == [
        "/app.v1.AppService/Zebra",
        "/app.v1.AppService/Apple",
        "/app.v1.AppService/Mango",
    ]
    assert repr(service) == "<Service app.v1.AppService: zebra, apple, mango>"


def test_nothing_is_exposed_that_was_not_chosen(service):
    assert dict(service.procedures) == {}
    assert repr(service) == "<Service app.v1.AppService: nothing exposed>"


def test_expose_without_a_service_is_that_of_the_default_service():
    assert default_service.name == "functions.v1.FunctionsService"
    assert expose == default_service.expose


def test_a_service_has_a_package_and_a_name():
    with pytest.raises(ValueError, match=r"such as 'chat\.v1\.ChatService', not 'ChatService'"):
        Service("ChatService")
    with pytest.raises(TypeError, match=r"such as 'chat\.v1\.ChatService', not None"):
        Service(None)


def test_a_function_is_found_by_itself(service):
    room = Room()
    service.expose(one)
    service.expose(room.enter)
    assert service.procedure_of(one).name == "one"
    assert service.procedure_of(room.enter).name == "enter"
    with pytest.raises(LookupError, match=r"enter .* is not exposed on app\.v1\.AppService"):
        service.procedure_of(Room().enter)


# What can't be exposed


def opaque_parameter(a: int, thing: Opaque) -> None: ...


def opaque_rest(*things: Opaque) -> None: ...


def opaque_value() -> dict[str, Opaque]: ...


def opaque_items() -> Iterator[Opaque]: ...


async def opaque_async_items() -> AsyncIterator[Opaque]:
    yield Opaque()


def maybe_stream() -> Iterator[int] | None: ...


def iterator_parameter(values: Iterator[int]) -> None: ...


def mixed(a: int, /, *, b: int) -> None: ...


def star_and_name(*args: int, b: int = 0) -> None: ...


def star_and_stars(*args: int, **kwargs: int) -> None: ...


def größe() -> int: ...


def _private() -> int: ...


def close() -> None: ...


class Cat(BaseModel):
    kind: Literal["pet"]


class Dog(BaseModel):
    kind: Literal["pet"]


class Handle(Enum):
    ONE = object()


class Limited(BaseModel):
    tags: list[Annotated[list[int], Field(ge=3)]] = []


def constrained(a: int, b: Annotated[int, Field(pattern="x")] = 1) -> None: ...
def too_long() -> list[Annotated[float, Field(max_length=3)]]: ...
def limited(limited: Limited) -> None: ...
def unclosed(a: int, b: Annotated[str, Field(pattern="(")]) -> None: ...
def gives_unclosed() -> Annotated[str, Field(pattern="(")]: ...
def pets(pet: Annotated[Cat | Dog, Field(discriminator="kind")], n: int) -> None: ...
def gives_pet() -> Annotated[Cat | Dog, Field(discriminator="kind")]: ...
def handle(a: int, handle: Handle) -> None: ...
def gives_handle() -> Handle | None: ...


CASES = [
    (constrained, ["constrained", "parameter 'b'", "can't be used", "constraint 'pattern'"]),
    (too_long, ["too_long", "what it gives", "can't be used", "constraint 'max_length'"]),
    (limited, ["limited", "parameter 'limited'", "can't be used", "constraint 'ge'"]),
    (unclosed, ["unclosed", "parameter 'b'", "unclosed group"]),
    (gives_unclosed, ["gives_unclosed", "its value", "unclosed group"]),
    (pets, ["pets", "parameter 'pet'", "'pet' for discriminator 'kind' mapped to multiple choices"]),
    (gives_pet, ["gives_pet", "its value", "mapped to multiple choices"]),
    (handle, ["handle", "parameter 'handle'", "JSON can't carry the value of Handle.ONE"]),
    (gives_handle, ["gives_handle", "what it gives", "Handle.ONE"]),
    (opaque_parameter, ["opaque_parameter", "parameter 'thing'", "Opaque", "Annotated[...]"]),
    (opaque_rest, ["opaque_rest", "parameter 'things'", "Opaque"]),
    (iterator_parameter, ["iterator_parameter", "parameter 'values'", "Iterator[int]"]),
    (opaque_value, ["opaque_value", "its value", "Opaque", "expose(response_model=...)"]),
    (opaque_items, ["opaque_items", "its item", "Opaque", "expose(response_model=...)"]),
    (opaque_async_items, ["opaque_async_items", "its item"]),
    (maybe_stream, ["maybe_stream", "its value", "Iterator[int] | None"]),
    (mixed, ["mixed", "a can only go by position and b only by name", "no '/'"]),
    (star_and_name, ["star_and_name", "args can only go by position and b only by name", "no '*'"]),
    (star_and_stars, ["star_and_stars", "args can only go by position and kwargs only by name", "functools.wraps"]),
    (größe, ["größe", "ASCII", "expose(name=...)"]),
    (_private, ["_private", "underscore", "expose(name=...)"]),
    (close, ["close", "every client has a 'close' of its own", "expose(name=...)"]),
    (lambda: 1, ["<lambda>", "a lambda has no name", "expose(name=...)"]),
    (Room, ["Room", "it is a class"]),
    (Room.enter, ["Room.enter", "'self'", "the bound method"]),
    (Room(), ["Room", "takes a function"]),
    (functools.partial(Room()), ["Room", "takes a function"]),
    (functools.partial(Room), ["Room", "it is a class"]),
    (operator.itemgetter(1), ["itemgetter", "takes a function"]),
    (staticmethod(one), ["one", "from outside of the class"]),
    (print, ["print", "by position", "by name"]),
    (3, ["3", "takes a function"]),
    ("name", ["'name'", "takes a function"]),
]


@pytest.mark.parametrize(("function", "says"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_what_cannot_be_exposed_is_refused_with_what_to_do(service, function, says):
    with pytest.raises(ExposeError) as caught:
        service.expose(function)
    message = str(caught.value)
    assert "can't be exposed on app.v1.AppService" in message
    assert "\n" not in message
    for words in says:
        assert words in message
    assert dict(service.procedures) == {}


@pytest.mark.once  # the oldest Pydantic reads no such alias from a parameter
def test_a_parameter_inside_of_another_argument_is_refused(service):
    def f(a: Annotated[int, Field(validation_alias=AliasPath("x", 0))]) -> None: ...

    with pytest.raises(ExposeError, match=r"'a' is read from inside of another argument .*: give it an alias"):
        service.expose(f)


def test_a_refusal_says_in_which_file_and_line(service):
    with pytest.raises(ExposeError, match=rf"mixed \(.*test_service\.py:{mixed.__code__.co_firstlineno}\)"):
        service.expose(mixed)


def test_names_that_become_one_rpc_are_refused(service):
    service.expose(name="get_user")(one)
    for other in ("get_user", "getUser", "GetUser", "get__user"):
        with pytest.raises(ExposeError, match="its RPC would be GetUser, as is that of 'get_user'"):
            service.expose(name=other)(one)
    assert list(service.procedures) == ["get_user"]


def test_a_name_can_be_given_to_what_has_none(service):
    service.expose(name="number")(lambda: 1)
    service.expose(name="size")(größe)
    service.expose(name="shut")(close)
    assert list(service.procedures) == ["number", "size", "shut"]


def test_a_refused_name_is_free_again(service):
    with pytest.raises(ExposeError):
        service.expose(name="f")(opaque_parameter)
    service.expose(name="f")(one)
    assert service.procedures["f"].function is one


class Broken:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> object:
        raise RuntimeError("it can't describe itself")


def broken_parameter(thing: Broken) -> None: ...


def test_what_raises_when_it_is_inspected_is_not_exposed(service):
    with pytest.raises(RuntimeError, match="describe itself"):
        service.expose(name="f")(broken_parameter)
    assert not service.exposes_anything
    service.expose(name="f")(one)
    assert service.procedures["f"].function is one


# Names that are defined later


def early(value: "Later") -> "Later":
    return value


def never(value: "NoSuchThing") -> None: ...  # noqa: F821


def test_annotations_may_name_what_is_defined_further_down():
    assert later_service.procedures["early"].value_type is Later


class Half(BaseModel):
    other: "Later"


later_service = Service("app.v1.LaterService")
later_service.expose(early)
later_service.expose(name="half")(lambda half: half)


class Later(BaseModel):
    n: int


def test_what_is_never_defined_is_refused_by_name_when_a_server_starts(service):
    service.expose(never)
    with pytest.raises(ExposeError, match=r"never .* what is not defined: name 'NoSuchThing' is not defined$"):
        Server(service)


def test_a_model_that_is_not_complete_yet_is_read_later(service):
    class Whole(BaseModel):
        part: "NotYet"  # noqa: F821

    def f(whole: Whole) -> None: ...

    service.expose(f)
    with pytest.raises(ExposeError, match=r"name 'NotYet' is not defined$"):
        service.procedures  # noqa: B018
    Whole.model_rebuild(_types_namespace={"NotYet": int})
    assert service.procedures["f"].arguments.load(b'[{"part": 1}]') == ((Whole(part=1),), {})


# bytes


class AsText(BaseModel):
    data: bytes


class AsBase64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    data: list[bytes | None]


def test_a_model_whose_bytes_would_go_as_text_is_warned_of(service):
    def f(value: list[AsText]) -> None: ...
    def g() -> dict[str, AsText | None]: ...

    for exposed in (lambda: service.expose(f), lambda: service.expose(name="other")(g)):
        with pytest.warns(UserWarning, match=r'AsText has bytes fields .*ser_json_bytes="base64"') as caught:
            exposed()
        assert caught[0].filename == __file__


@pytest.mark.parametrize("either", [str | bytes, bytes | int | Annotated[str, Field(max_length=3)] | None])
def test_text_or_bytes_is_warned_of(service, either):
    class Message(BaseModel):
        model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
        content: either

    def taken(content: list[either]) -> None: ...
    def given() -> Message: ...

    for function in (taken, given):
        says = rf"{function.__name__} .*of str \| bytes one comes as the other"
        with pytest.warns(UserWarning, match=says) as seen:
            service.expose(function)
        assert [warning.filename for warning in seen] == [__file__]


def test_bytes_anywhere_else_need_no_warning(service):
    @service.expose
    def f(a: bytes, b: list[bytes], c: AsBase64) -> tuple[bytes, ...]: ...

    assert "f" in service.procedures


def test_limits_that_make_no_sense_are_refused(service):
    async def one() -> int: ...

    with pytest.raises(
        ExposeError, match="first_item_timeout and idle_timeout are for streams, and it gives one value"
    ):
        service.expose(idle_timeout=5)(one)
    with pytest.raises(ValueError, match="request_bytes must be a whole number, at least 1, not -1"):
        service.expose(request_bytes=-1)(one)
    with pytest.raises(TypeError, match="idempotent is True or False, not 'x'"):
        service.expose(idempotent="x")(one)
    assert not service.exposes_anything


def test_what_is_to_be_called_is_no_json(service):
    def takes(done: Callable[[int], None] | None = None) -> None: ...

    def gives() -> list[Callable[[], int]]: ...

    for function, said in ((takes, "parameter 'done' is something to call"), (gives, "it gives .*Callable")):
        with pytest.raises(ExposeError, match=said):
            service.expose(function)
    assert not service.exposes_anything
