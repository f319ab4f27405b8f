"""A generated client, as type checkers see it: what is right passes, and what is wrong is an error on its line."""

from typing import assert_type

from ephaptic_grpc import connect, connect_sync
from ephaptic_grpc.generated import Stream, SyncStream
from tests.golden.shapes_client import (
    Address,
    Cat,
    Colour,
    Dog,
    Everything,
    Node,
    PageAddress,
    ShapesService,
    SyncShapesService,
)


async def asynchronous(everything: Everything) -> None:
    client = connect("localhost:50051", ShapesService)
    assert_type(client, ShapesService)
    assert_type(client.with_options(timeout=3), ShapesService)
    async with client as entered:
        assert_type(entered, ShapesService)

    assert_type(await client.echo(everything), Everything)
    assert_type(await client.find("a", (1, "x"), 2, 3), list[str])
    assert_type(await client.list(page=2), PageAddress)
    assert_type(client.trees(Node(value=1), name="oak"), Stream[Node])
    async for tree in client.trees(Node(value=1), 3):
        assert_type(tree, Node)
    async for pet in client.pets(Colour.RED, limit=3):
        assert_type(pet, Cat | Dog)
    await client.nothing()

    await client.echo("everything")  # type: ignore[arg-type]
    await client.echo()  # type: ignore[call-arg]
    await client.find(query="a")  # type: ignore[call-arg]
    client.trees(Node(value=1), 3, "oak")  # type: ignore[call-arg]
    client.pets("red")  # type: ignore[arg-type]
    client.anything()  # type: ignore[attr-defined]
    Node(value="x")  # type: ignore[arg-type]
    Address(city="Paris")  # type: ignore[call-arg]


def blocking(everything: Everything) -> None:
    with connect_sync("localhost:50051", SyncShapesService) as client:
        assert_type(client, SyncShapesService)
        assert_type(client.echo(everything), Everything)
        assert_type(client.trees(Node(value=1)), SyncStream[Node])
        for tree in client.trees(Node(value=1)):
            assert_type(tree, Node)
        client.find(3)  # type: ignore[arg-type]

    connect_sync("localhost:50051", ShapesService)  # type: ignore[type-var]
    connect("localhost:50051", SyncShapesService)  # type: ignore[type-var]
