"""What a client of gRPC-Web reads at the end of an answer."""

from urllib.parse import unquote


def read_trailers(payload: bytes) -> dict[str, str]:
    """What a trailers frame says, by its names in lower case."""
    lines = payload.decode("utf-8", "replace").splitlines()
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def read_message(value: str) -> str:
    """A status message out of its percent encoding."""
    return unquote(value, errors="strict")
