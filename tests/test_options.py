import pytest

from ephaptic_grpc.options import KEEP, Options


def test_options_change_one_by_one():
    options = Options.of(5, {"X-Tenant": "a", "x-trace-bin": b"\xff"})
    assert options.metadata == (("x-tenant", "a"), ("x-trace-bin", b"\xff"))
    assert options.but(KEEP, KEEP) == options
    assert options.but(None, KEEP).timeout is None
    assert options.but(KEEP, [("X-TENANT", "b"), ("x-tenant", "c")]).metadata == (
        ("x-trace-bin", b"\xff"),
        ("x-tenant", "b"),
        ("x-tenant", "c"),
    )


@pytest.mark.parametrize("metadata", [["authorization"], "authorization", [("x", "a", "b")], [(b"x", "a")], None, 3])
def test_metadata_that_are_no_pairs_are_refused_without_being_told(metadata):
    with pytest.raises(TypeError) as caught:
        Options.of(None, {}).but(KEEP, metadata)
    assert "metadata is pairs of a key and a value, such as {'x-tenant': 'a'}" in str(caught.value)
    assert "authorization" not in str(caught.value)


@pytest.mark.parametrize("timeout", [-1, -0.5, float("nan"), True, "5"])
def test_a_timeout_is_seconds(timeout):
    for change in (lambda: Options.of(timeout, ()), lambda: Options.of(5, ()).but(timeout, KEEP)):
        with pytest.raises((TypeError, ValueError), match="timeout is a number of seconds"):
            change()
    assert Options.of(0, ()).timeout == 0
