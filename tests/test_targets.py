import pytest

from ephaptic_grpc import connect, connect_sync
from ephaptic_grpc.targets import check_target


@pytest.mark.parametrize(
    "target",
    [
        *("localhost:50051", "[::1]:50051", "[fe80::1%eth0]:50051", "my_host-1.example.com:443", "localhost:https"),
        *(
            "dns:///localhost:50051",
            "dns:localhost:50051",
            "dns://1.1.1.1/localhost",
            "DNS:///localhost:1",
            "xds:///chat",
        ),
        *("unix:chat.sock", "unix:///run/chat.sock", "unix-abstract:chat", "vsock:2:50051", "google-c2p:///chat"),
        *("ipv4:127.0.0.1:50051,127.0.0.2:50051", "ipv6:[::1]:50051"),
    ],
)
def test_every_form_that_grpc_knows_is_a_target(target):
    check_target(target)


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("localhost", "localhost:50051"),
        ("50051", "localhost:50051"),
        (":50051", "localhost:50051"),
        ("http://localhost:8080", "localhost:8080"),
        ("HTTP://localhost/chat", "localhost:50051"),
        ("::1", "[::1]:50051"),
        ("::1:50052", "[::1]:50052"),
        ("/run/chat.sock", "unix:/run/chat.sock"),
    ],
)
def test_what_is_no_target_is_refused_with_what_would_be(target, hint):
    for connecting in (check_target, connect, connect_sync):
        with pytest.raises(ValueError) as caught:
            connecting(target)
        assert str(caught.value) == f"a target is host:port, such as localhost:50051, not {target!r}: write {hint!r}"


def test_tls_is_said_where_it_was_meant():
    with pytest.raises(ValueError, match=r"write 'api\.example\.com:443', and give tls=True"):
        check_target("https://api.example.com/chat")


@pytest.mark.parametrize(
    "target", ["", " ", "localhost:", "localhost:0", "localhost:99999", "a b:1", "x:1/", "foo:///bar"]
)
def test_where_nothing_can_be_guessed_nothing_is(target):
    with pytest.raises(ValueError, match=r"a target is host:port, such as localhost:50051, not '[^']*'$"):
        check_target(target)


def test_a_target_is_text():
    with pytest.raises(TypeError, match="a target is text, such as 'localhost:50051', not 50051"):
        connect(50051)
