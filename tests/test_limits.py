import dataclasses

import pytest

from ephaptic_grpc import Limits


def test_limits_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().threads = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"request_bytes": 0}, "request_bytes must be at least 1, not 0"),
        ({"threads": -1}, "threads must be at least 1, not -1"),
        ({"cleanup": -0.5}, "cleanup must not be negative, not -0.5"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Limits(**wrong)
