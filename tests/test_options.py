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
