"""What the asynchronous and the blocking client have in common."""

import copy
import pickle

import grpc
import pytest
from pydantic import BaseModel

from ephaptic_grpc import CallError, Service, connect_sync, current_call
from ephaptic_grpc.payload import pack
from ephaptic_grpc.remote import remote_of
from ephaptic_grpc.v1.payload_pb2 import Payload


class User(BaseModel):
    name: str
    tags: list[str] = []


service = Service("remote.v1.RemoteService")


@service.expose
def greet(user: User) -> User:
    return user


@service.expose
def has_deadline() -> bool:
    return current_call().remaining() is not None


def unexposed() -> None: ...


def test_a_name_that_is_nearly_right_is_suggested():
    with pytest.raises(
        AttributeError, match=r"remote\.v1\.RemoteService has no function 'gret' \(did you mean 'greet'\?\)"
    ):
        remote_of(service).method("gret")


def test_a_name_that_no_function_can_have_is_refused_without_a_call():
    with pytest.raises(AttributeError, match="'class' can't be a function: it, or its RPC, would be a keyword"):
        remote_of("remote.v1.RemoteService").method("class")


def test_the_default_service_is_named_where_it_was_not_meant():
    with connect_sync("localhost:1") as client, pytest.raises(AttributeError) as caught:
        client.greet()
    assert str(caught.value).endswith(": it is the default service, connect(target, service) calls another")


def test_a_traceback_says_which_call_failed():
    with connect_sync("127.0.0.1:1", service) as client, pytest.raises(CallError) as caught:
        client.has_deadline()
    assert "in a call of /remote.v1.RemoteService/HasDeadline" in caught.value.__notes__


@pytest.mark.parametrize("wrong", [None, 3, greet, User])
def test_a_client_is_of_a_service(wrong):
    with pytest.raises(TypeError, match="takes a Service, the name of one or a generated client"):
        remote_of(wrong)


def test_a_service_is_named_in_full():
    with pytest.raises(ValueError, match=r"such as 'chat\.v1\.ChatService'"):
        remote_of("RemoteService")


def test_bind_takes_what_is_exposed_and_knows_its_types():
    with pytest.raises(LookupError, match=r"unexposed .* is not exposed on remote\.v1\.RemoteService"):
        remote_of(service).method_of(unexposed)
    with pytest.raises(TypeError, match="connect with the Service"):
        remote_of(service.name).method_of(greet)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (pack(b'{"name": 3}'), " type: name: Input should be a valid string"),
        (pack(b'{"name": "x", "tags": [3]}'), " type: tags[0]: Input should be a valid string"),
        (pack(b"3"), "object"),
        (pack(b"{"), "Invalid JSON"),
        (pack(b""), "Invalid JSON"),
        (b"\xff", "the message is not an ephaptic_grpc.v1.Payload"),
        (Payload(content_type="text/html", json="x").SerializeToString(), "'application/json'"),
    ],
)
def test_a_reply_that_does_not_fit_says_so(message, why):
    with pytest.raises(CallError) as caught:
        remote_of(service).method("greet").value(message)
    assert caught.value.code is grpc.StatusCode.INTERNAL
    assert why in caught.value.message
    assert caught.value.message.startswith("the reply of /remote.v1.RemoteService/Greet doesn't fit")


def test_an_untyped_reply_that_is_no_json_says_so():
    with pytest.raises(CallError, match="it is not JSON"):
        remote_of(service.name).method("greet").value(pack(b"{"))


def test_pythons_own_probing_of_a_client_finds_no_function():
    with connect_sync("localhost:1", service.name) as client:
        assert not hasattr(client, "__len__")
        assert not hasattr(client, "_repr_html_")
        with pytest.raises(TypeError):
            pickle.dumps(client)
        assert copy.copy(client)


def test_a_client_with_other_options_leaves_the_first_as_it_was(serve):
    client = serve(service).client
    hurried = client.with_options(timeout=60)
    assert (client.has_deadline(), hurried.has_deadline()) == (False, True)
    assert hurried.with_options(timeout=None).has_deadline() is False
