"""A contract as JSON, for people and for other programs."""

import json

from ephaptic_grpc.contract import Contract


def contract_json(contract: Contract) -> str:
    """The text of the file."""
    return json.dumps(contract.as_json(), indent=2) + "\n"
