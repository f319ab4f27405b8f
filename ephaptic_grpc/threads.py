"""A bounded pool of daemon threads, for synchronous functions and generators.

Not ``concurrent.futures``: its threads are joined when the interpreter exits, so that one sleeping function would hold
the whole server up.
"""

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class Job:
    """Work for a thread that can be taken back until it begins.

    It then holds nothing of it: where every thread is taken, what waits in the queue can be what callers sent who have
    left since.

    Args:
        work: must not raise.
    """

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = [work]  # out of which only one can take it

    def __call__(self) -> None:
        work = self._take()
        if work is not None:
            work()

    def take_back(self) -> bool:
        """False where it has begun."""
        return self._take() is not None

    def _take(self) -> Callable[[], None] | None:
        try:
            return self._work.pop()
        except IndexError:
            return None


class Threads:
    """Up to ``size`` threads, started when there is work for them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._started = 0
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()

    def submit(self, job: Job) -> None:
        """Run a job in a thread: at once, or when one is free.

        Raises:
            RuntimeError: the system has no more threads, and the job will not run.
        """
        if not self._idle.acquire(blocking=False):  # else the thread that was counted as idle takes it
            with self._lock:
                if self._started < self._size:
                    name = f"ephaptic_grpc-{self._started + 1}"
                    threading.Thread(target=self._work, daemon=True, name=name).start()
                    self._started += 1
        self._jobs.put(job)

    async def run(self, function: Callable[[], T]) -> T:
        """The result of ``function``, called in a thread with this task's context variables.

        Cancelled, it stops waiting: a function that runs already runs to its end, one that doesn't never starts.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = copy_context()

        def work() -> None:
            try:
                post(loop, _settle, future, context.run(function), None)
            except BaseException as error:  # SystemExit too: it is the function's, not the server's
                post(loop, _settle, future, None, error)

        job = Job(work)
        self.submit(job)
        try:
            return await future
        except asyncio.CancelledError:
            job.take_back()
            raise
        except BaseException:
            del future  # it holds the error, whose traceback holds this frame
            raise

    def close(self) -> None:
        """Let the threads end: the idle ones now, the others after their job."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # what it holds must not live until the next one comes
            self._idle.release()


def post(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> bool:
    """Call ``callback`` in a loop, from any thread; False where the loop is gone, and with it who waits."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        return False
    return True


def _settle(future: asyncio.Future[T], result: T, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration | GeneratorExit):  # to a coroutine that waits, these mean something else
        future.set_exception(_as_runtime_error(error))
    else:
        future.set_exception(error)


def _as_runtime_error(error: BaseException) -> RuntimeError:
    wrapped = RuntimeError(f"the function raised {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped
