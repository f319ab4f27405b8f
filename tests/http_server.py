"""A real uvicorn in a thread, on a free port, for the tests of what goes over HTTP."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from waiting import eventually_sync


@contextmanager
def serving_http(app: Any, **options: Any) -> Iterator[str]:
    """The URL of an app until the block ends. Options are uvicorn's."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(app, **{"log_level": "warning", "timeout_graceful_shutdown": 1, **options})
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            eventually_sync(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive()
