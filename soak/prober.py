"""A caller in a process of its own, as a program: what a call takes while others load the server.

``python -m soak.prober ADDRESS echo`` calls until its input ends, and then prints the milliseconds that each call took.
``python -m soak.prober ADDRESS waits KEY`` opens a stream, says ``open``, and waits to be killed.
"""

import json
import sys
import threading
import time

from ephaptic_grpc import connect_sync
from soak.server import service

PAUSE_SECONDS = 0.005


def _echo(address: str) -> None:
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    took: list[float] = []
    with connect_sync(address, service, timeout=60) as client:
        client.echo("ready")
        print("open", flush=True)
        while not over.wait(PAUSE_SECONDS):
            begun = time.perf_counter()
            client.echo("?")
            took.append((time.perf_counter() - begun) * 1000)
    print(json.dumps(took))


def _wait(address: str, key: str) -> None:
    with connect_sync(address, service) as client:
        for _ in client.waits(key):
            print("open", flush=True)


if __name__ == "__main__":
    _, where, what, *more = sys.argv
    if what == "echo":
        _echo(where)
    else:
        _wait(where, *more)
