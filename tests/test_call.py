import threading

import pytest

from ephaptic_grpc import Service, connect_sync, current_call


def test_outside_of_a_call_there_is_none():
    with pytest.raises(LookupError, match="for functions that a client called"):
        current_call()


@pytest.fixture
def served(serve):
    service = Service("call.v1.CallService")

    @service.expose
    def seen() -> list[str | None]:
        call = current_call()
        return [call.procedure.name, call.metadata.get("x-tenant"), ",".join(call.metadata.get_all("x-many"))]

    @service.expose
    def remaining() -> float | None:
        return current_call().remaining()

    @service.expose
    async def name_in_coroutine() -> str:
        return current_call().procedure.name

    @service.expose
    async def names_in_stream():
        for _ in range(2):
            yield current_call().procedure.name

    @service.expose
    def names_in_sync_stream():
        for _ in range(2):
            yield current_call().procedure.name

    @service.expose
    def in_a_thread_of_its_own() -> list[str]:
        found = []
        thread = threading.Thread(target=lambda: found.append(_called()))
        thread.start()
        thread.join()
        return found

    return serve(service)


def _called() -> str:
    try:
        return current_call().procedure.name
    except LookupError:
        return "none"


def test_a_function_sees_its_procedure_and_the_metadata(served):
    client = served.client.with_options(metadata=[("X-Tenant", "a"), ("x-many", "1"), ("x-many", "2")])
    assert client.seen() == ["seen", "a", "1,2"]


def test_every_kind_of_function_sees_its_call(served):
    assert served.client.name_in_coroutine() == "name_in_coroutine"
    assert list(served.client.names_in_stream()) == ["names_in_stream"] * 2
    assert list(served.client.names_in_sync_stream()) == ["names_in_sync_stream"] * 2


def test_a_bare_thread_has_no_context(served):
    # As with every context variable before Python 3.14: copy_context() carries it.
    assert served.client.in_a_thread_of_its_own() in (["none"], ["in_a_thread_of_its_own"])


def test_the_deadline_reaches_the_function(served):
    assert served.client.remaining() is None
    assert 0 < served.client.with_options(timeout=60).remaining() < 120


def test_metadata_with_options_replaces_and_adds(served):
    with connect_sync(served.address, "call.v1.CallService", metadata={"x-tenant": "a", "x-many": "0"}) as client:
        assert client.seen() == ["seen", "a", "0"]
        assert client.with_options(metadata={"x-tenant": "b"}).seen() == ["seen", "b", "0"]
