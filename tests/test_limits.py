import dataclasses

import pytest

from ephaptic_grpc import Limits
from ephaptic_grpc.limits import FunctionLimits


def test_of_a_function_and_its_server():
    server = Limits(request_bytes=10, idle_timeout=5, calls=7)
    own = server.of(FunctionLimits(reply_bytes=20, idle_timeout=1))
    assert own == Limits(request_bytes=10, reply_bytes=20, idle_timeout=1, calls=7)
    assert server.of(FunctionLimits()) == server


@pytest.mark.parametrize(
    ("default", "most", "remaining", "deadline"),
    [
        (None, None, None, None),
        (None, None, 5, None),
        (3, None, None, 3),
        (3, None, 5, None),
        (None, 4, None, 4),
        (None, 4, 5, 4),
        (None, 4, 3, None),
        (3, 4, None, 3),
        (5, 4, None, 4),
    ],
)
def test_deadlines(default, most, remaining, deadline):
    assert Limits(default_timeout=default, max_timeout=most).deadline(remaining) == deadline


def test_limits_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().threads = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"request_bytes": 0}, "request_bytes must be a whole number, at least 1, not 0"),
        ({"reply_bytes": 1.5}, "reply_bytes must be a whole number, at least 1, not 1.5"),
        ({"reply_bytes": 2**31}, "reply_bytes must be 2147483583 at most, not 2147483648"),
        ({"request_bytes": None}, "request_bytes must be a whole number, at least 1, not None"),
        ({"threads": -1}, "threads must be a whole number, at least 1, not -1"),
        ({"idle_timeout": 0}, "idle_timeout must be a number of seconds above 0, or None, not 0"),
        ({"max_timeout": "5"}, "max_timeout must be a number of seconds above 0, or None, not '5'"),
        ({"cleanup": -0.5}, "cleanup must be a number of seconds, 0 or more, not -0.5"),
        ({"cleanup": float("nan")}, "cleanup must be a number of seconds, 0 or more, not nan"),
        ({"max_timeout": True}, "max_timeout must be a number of seconds above 0, or None, not True"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Limits(**wrong)
