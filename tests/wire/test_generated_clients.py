"""The generated client of tests/golden, against the service it was generated from and against one that has changed."""

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Literal

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from pydantic import BaseModel, ConfigDict, Field

from ephaptic_grpc import CallError, Server, Service, connect, connect_sync
from ephaptic_grpc.codegen.python import python_module
from ephaptic_grpc.contract import Contract
from ephaptic_grpc.errors import ServiceError
from ephaptic_grpc.generated import DeclaredClient
from ephaptic_grpc.reflection import contracts_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server(shapes):
    async with Server(shapes, port=0) as server:
        yield server


@pytest.fixture
async def client(server, shapes_client):
    async with connect(server.address, shapes_client.ShapesService) as client:
        yield client


def example_of(shapes_client, **changes):
    """The example of the service, in the types of the client."""
    from shapes import Everything

    json = Everything.example().model_dump(mode="json", by_alias=True)
    return shapes_client.Everything.model_validate({**json, **changes})


async def test_every_type_survives(client, shapes_client):
    sent = example_of(shapes_client)
    came = await client.echo(sent)
    assert isinstance(came, shapes_client.Everything)
    assert came == sent
    assert str(came.price) == "1.10"
    assert came.colour is shapes_client.Colour.RED
    assert came.pets == [shapes_client.Cat(), shapes_client.Dog(good=False)]
    assert came.schema_ == "s"


async def test_models_are_made_by_their_fields_names_in_python(client, shapes_client):
    fields = example_of(shapes_client).model_dump()
    made = shapes_client.Everything(**fields)
    assert made.movie.year is None  # which is not sent: the server has no year that is None
    assert (await client.echo(made)).schema_ == "s"


async def test_a_parameter_that_is_not_given_is_left_to_the_server(shapes_client):
    service = Service("shapes.v1.ShapesService")

    class Node(BaseModel):
        value: int
        children: list[int] = [7]

    seen: list[object] = []

    @service.expose
    async def trees(node: Node, depth: int = 99, *, name: str | None = "somebody") -> AsyncIterator[None]:
        seen.extend((node.children, depth, name))
        yield None

    async with Server(service, port=0) as changed, connect(changed.address, shapes_client.ShapesService) as client:
        with pytest.raises(CallError, match=r"doesn't fit .* Generate this client again"):
            async for _ in client.trees(shapes_client.Node(value=1)):
                pass
    assert seen == [[], 99, "somebody"]  # the defaults of models are sent: they may have been changed where they are


class Cat(BaseModel):
    kind: Literal["cat", "lion"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    lives: int = 1


class Sparse(BaseModel):
    tags: list[str] = []
    made: list[str] = Field(default_factory=lambda: ["made"])
    maybe: int | None = Field(default_factory=lambda: 5)
    pet: Cat | Dog = Field(default=Dog(), discriminator="kind")
    unknowns: list[str] = []
    mro_: int = Field(default=1, alias="mro")
    register_: int = Field(default=1, alias="register")


@pytest.fixture
async def sparse(monkeypatch):
    """A service of that, and a client that was generated of it."""
    service = Service("sparse.v1.SparseService")

    @service.expose
    async def put(model: Sparse) -> Sparse:
        return model

    module = ModuleType("sparse_client")
    monkeypatch.setitem(sys.modules, "sparse_client", module)
    exec(compile(python_module(Contract.of(service)), "sparse_client", "exec"), vars(module))
    async with Server(service, port=0) as server, connect(server.address, module.SparseService) as client:
        yield module, client


async def test_what_was_changed_in_place_is_sent(sparse):
    module, client = sparse
    model = module.Sparse()
    model.tags.append("a")
    model.pet = module.Cat()
    came = await client.put(model)
    assert (came.tags, came.pet) == (["a"], module.Cat())


async def test_defaults_that_only_the_server_knows_are_its_own(sparse):
    module, client = sparse
    came = await client.put(module.Sparse())
    assert (came.made, came.maybe, came.pet) == (["made"], 5, module.Dog())
    assert (await client.put(module.Sparse(maybe=None))).maybe is None
    assert (await client.put(await client.put(module.Sparse(maybe=None)))).maybe is None


async def test_fields_may_be_called_what_classes_have_themselves(sparse):
    module, client = sparse
    came = await client.put(module.Sparse(unknowns=["a"], mro_=2, register_=3))
    assert (came.unknowns, came.mro_, came.register_, came.made) == (["a"], 2, 3, ["made"])


async def test_a_dictionary_stands_for_a_model_with_such_defaults(sparse, client):
    _, sparse_client = sparse
    came = await sparse_client.put({"tags": ["a"], "pet": {"kind": "lion"}})
    assert (came.tags, came.made, came.pet.kind) == (["a"], ["made"], "lion")
    assert await client.login("ada", more={"name": "Alien"}) is None


async def test_streams_give_models(client, shapes_client):
    trees = [tree async for tree in client.trees(shapes_client.Node(value=5), 2, name="oak")]
    assert [tree.value for tree in trees] == [0, 1]
    assert trees[0].parent == shapes_client.Node(value=5)
    assert [pet.kind async for pet in client.pets(limit=3)] == ["cat", "dog"]


async def test_positions_names_and_the_rest(client, shapes_client):
    assert await client.find("a") == ["a", "x"]
    assert await client.find("a", (2, "y"), 3, 4) == ["a", "y", "3", "4"]
    assert len((await client.list(limit=2)).items) == 2
    assert (await client.list(3)).items[0].street == "3"
    assert await client.login("ada", more=shapes_client.Movie(name="Alien")) is None
    assert await client.nothing() is None


async def test_what_can_not_be_called_so_is_told_at_once(client):
    with pytest.raises(TypeError, match=r"nothing\(\): too many positional arguments"):
        await client.nothing(1)
    with pytest.raises(AttributeError, match="'ShapesService' object has no attribute 'nothin'"):
        _ = client.nothin
    with pytest.raises(AttributeError, match=r"no function 'nothin' \(did you mean 'nothing'\?\)"):
        client.call("nothin")


async def test_a_client_keeps_its_options_and_its_types(client, shapes_client):
    quick = client.with_options(timeout=5)
    assert isinstance(quick, shapes_client.ShapesService)
    assert await quick.find("a") == ["a", "x"]
    assert await client.call("find", "b") == ["b", "x"]
    assert {"echo", "find", "list", "with_options"} <= set(dir(client))


def test_the_blocking_client(serve, shapes, shapes_client):
    served = serve(shapes)
    with connect_sync(served.address, shapes_client.SyncShapesService) as client:
        assert client.echo(example_of(shapes_client)).price == example_of(shapes_client).price
        assert [tree.value for tree in client.trees(shapes_client.Node(value=5))] == [0, 1, 2]
        assert client.find("a", (2, "y"), 3) == ["a", "y", "3"]


def test_a_client_of_one_kind_is_not_one_of_the_other(shapes_client):
    with pytest.raises(TypeError, match=r"a generated client, not .*: that one is for connect_sync"):
        connect("localhost:1", shapes_client.SyncShapesService)
    with pytest.raises(TypeError, match=r"a generated client, not .*: that one is for connect$"):
        connect_sync("localhost:1", shapes_client.ShapesService)


def test_a_module_and_an_instance_are_told_from_a_client(shapes, shapes_client):
    with pytest.raises(TypeError, match=r": pass shapes_client\.ShapesService$"):
        connect("localhost:1", shapes_client)
    with pytest.raises(TypeError, match=r": pass shapes_client\.SyncShapesService$"):
        connect_sync("localhost:1", shapes_client)
    with pytest.raises(TypeError, match=r": pass shapes\.shapes$"):
        connect("localhost:1", sys.modules["shapes"])
    with pytest.raises(TypeError, match=r": pass its class, ShapesService$"):
        connect("localhost:1", connect("localhost:1", shapes_client.ShapesService))


def test_a_client_that_was_not_generated_has_no_functions():
    with pytest.raises(TypeError, match="DeclaredClient is no generated client"):
        connect("localhost:1", DeclaredClient)


async def test_a_client_of_a_subclass_has_what_it_adds(server, shapes_client):
    class Mine(shapes_client.ShapesService):
        async def find_twice(self, query: str) -> list[str]:
            return [*await self.find(query), *await self.call("find", query)]

    async with connect(server.address, Mine) as client:
        assert await client.find_twice("a") == ["a", "x", "a", "x"]


def test_the_methods_are_what_they_declare(shapes_client):
    assert shapes_client.ShapesService.echo.__doc__ == "Give back what came."
    assert list(inspect.signature(shapes_client.ShapesService.find).parameters) == ["self", "query", "near", "rest"]


async def test_what_a_type_says_of_itself_never_leaks():
    def fails(_):
        raise RuntimeError("password=hunter2")

    class Secretive(BaseModel):
        model_config = ConfigDict(json_schema_extra=fails)
        a: int = 1

    service = Service("leak.v1.LeakService")

    @service.expose
    async def put(model: Secretive) -> None: ...

    async with Server(service, port=0, reflection=True) as server:
        async with connect(server.address, service.name, metadata={"ephaptic-contract": "00"}) as client:
            with pytest.raises(CallError) as caught:
                await client.put(model={"a": "x"})
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(CallError) as told:
            await asyncio.to_thread(contracts_of, server.address, 10)
    assert told.value.code is grpc.StatusCode.INTERNAL
    assert "hunter2" not in str(caught.value) + str(told.value)


@pytest.fixture
async def changed():
    """The service, with a parameter that no old client sends."""
    service = Service("shapes.v1.ShapesService")

    @service.expose
    async def find(query: str, near: str, far: int) -> list[str]: ...

    @service.expose
    async def nothing() -> None:
        raise ServiceError(grpc.StatusCode.INVALID_ARGUMENT, "not because of the contract")

    @service.expose
    async def login(user: str, password: str, **more: object) -> None:
        raise ServiceError(grpc.StatusCode.UNIMPLEMENTED, "not yet")

    async with Server(service, port=0) as server:
        yield server


async def test_a_stale_client_is_told_apart_from_a_wrong_call(client, changed, shapes_client):
    with pytest.raises(CallError) as wrong:
        await client.find(3)
    assert wrong.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert not wrong.value.stale

    async with connect(changed.address, shapes_client.ShapesService) as old:
        with pytest.raises(CallError) as stale:
            await old.find("a")
        with pytest.raises(CallError) as chosen:
            await old.nothing()
    assert stale.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert stale.value.stale
    violations, info = stale.value.details
    assert isinstance(violations, BadRequest)
    assert [violation.field for violation in violations.field_violations] == ["near", "far"]
    assert isinstance(info, ErrorInfo)
    assert info.reason == "CONTRACT_CHANGED"
    assert set(info.metadata) == {"client", "server"}
    assert info.metadata["client"] != info.metadata["server"]
    assert str(stale.value).endswith(": generate it again")
    assert not chosen.value.stale
    assert "generate" not in f"{chosen.value} {wrong.value}"


async def test_a_client_of_a_function_that_is_gone_is_stale(changed, shapes_client):
    node = shapes_client.Node(value=1)

    def calls_sync():
        with connect_sync(changed.address, shapes_client.SyncShapesService) as client:
            for call in (lambda: client.list(1), lambda: next(client.trees(node))):
                with pytest.raises(CallError) as gone:
                    call()
                yield gone.value

    async with connect(changed.address, shapes_client.ShapesService) as client:
        for call in (client.list(1), anext(client.trees(node))):
            with pytest.raises(CallError) as gone:
                await call
            assert gone.value.stale
        with pytest.raises(CallError) as chosen:
            await client.login("ada", "x")
    assert gone.value.message == "the server has no shapes.v1.ShapesService/Trees"
    assert str(gone.value).endswith("; the contract has changed since this client was generated: generate it again")
    assert (chosen.value.message, chosen.value.stale) == ("not yet", False)
    assert all(error.stale for error in await asyncio.to_thread(list, calls_sync()))


async def test_a_stale_client_is_told_so_however_much_is_wrong(changed, shapes_client):
    from ephaptic_grpc.payload import CONTRACT_KEY

    service = Service("shapes.v1.ShapesService")

    @service.expose
    async def find(**names: int) -> None: ...

    async with Server(service, port=0) as server, connect(server.address, "shapes.v1.ShapesService") as client:
        stranger = client.with_options(metadata={CONTRACT_KEY: "x" * 1000})
        with pytest.raises(CallError) as caught:
            await stranger.find(**{f"name_{number}" * 30: "no" for number in range(100)})
    assert caught.value.stale
    assert isinstance(caught.value.details[0], BadRequest)
