"""The pool of threads."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from contextvars import ContextVar

import pytest
from waiting import eventually

from ephaptic_grpc.limits import JSON_BYTES
from ephaptic_grpc.pipe import Pipe, produce_in_thread
from ephaptic_grpc.threads import Threads, post

pytestmark = pytest.mark.anyio

variable: ContextVar[str] = ContextVar("variable", default="outside")


@pytest.fixture
def threads():
    threads = Threads(3)
    yield threads
    threads.close()


async def test_a_function_runs_in_a_thread_with_the_context_of_its_caller(threads):
    variable.set("inside")

    def run() -> tuple[str, bool]:
        seen = variable.get()
        variable.set("changed")
        return seen, threading.current_thread() is threading.main_thread()

    assert await threads.run(run) == ("inside", False)
    assert variable.get() == "inside"


async def test_threads_are_started_as_they_are_needed_and_used_again(threads):
    before = set(threading.enumerate())
    used = {await threads.run(threading.get_ident)}
    assert {thread.ident for thread in set(threading.enumerate()) - before} == used
    # How many these take is up to the machine: the last one may not be idle yet when the next is asked for.
    used |= {await threads.run(threading.get_ident) for _ in range(10)}
    barrier = threading.Barrier(3)

    def meet() -> int:
        barrier.wait(5)
        return threading.get_ident()

    together = set(await asyncio.gather(*(threads.run(meet) for _ in range(3))))
    assert len(together) == 3
    assert used <= together


async def test_what_the_system_has_no_thread_for_never_runs_and_the_pool_is_as_large_as_before(threads, monkeypatch):
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ran: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="new thread"):
                await threads.run(lambda: ran.append("refused"))
    barrier = threading.Barrier(3)
    await asyncio.gather(*(threads.run(lambda: barrier.wait(20)) for _ in range(3)))
    assert ran == []


async def test_no_more_than_its_size_run_at_once(threads):
    running = most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    await asyncio.gather(*(threads.run(work) for _ in range(60)))
    assert most == 3


async def test_a_job_is_never_forgotten(threads):
    # One after the other and many at once: whichever thread is idle, busy or about to be either.
    for round_ in range(200):
        count = round_ % 7
        results = await asyncio.wait_for(asyncio.gather(*(threads.run(lambda i=i: i) for i in range(count))), 5)
        assert results == list(range(count))


async def test_a_job_that_was_cancelled_in_the_queue_never_starts(threads):
    release, started = threading.Event(), []
    blockers = [asyncio.create_task(threads.run(lambda: release.wait(10))) for _ in range(3)]
    queued = asyncio.create_task(threads.run(lambda: started.append(1)))
    await asyncio.sleep(0.02)
    queued.cancel()
    await asyncio.wait([queued])
    assert queued.cancelled()
    release.set()
    await asyncio.gather(*blockers)
    assert await threads.run(lambda: 7) == 7
    assert started == []


async def test_what_was_cancelled_in_the_queue_is_let_go_of(threads):
    class Thing:
        pass

    release, thing = threading.Event(), Thing()
    alive = weakref.ref(thing)
    blockers = [asyncio.create_task(threads.run(lambda: release.wait(60))) for _ in range(3)]
    queued = asyncio.create_task(threads.run(lambda thing=thing: None))
    pipe = Pipe(asyncio.get_running_loop(), JSON_BYTES)
    stop = produce_in_thread(threads, lambda thing=thing: iter([thing]), str.encode, pipe)
    del thing
    await asyncio.sleep(0.02)
    queued.cancel()
    stop()
    await asyncio.wait([queued])
    assert pipe.ended
    del queued, stop, pipe
    await eventually(lambda: gc.collect() is not None and alive() is None)
    release.set()
    await asyncio.gather(*blockers)


async def test_a_job_that_was_cancelled_while_it_runs_runs_to_its_end(threads):
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait(10)
        ended.set()
        raise ValueError  # nobody is told

    task = asyncio.create_task(threads.run(work))
    await eventually(begun.is_set)
    task.cancel()
    await asyncio.wait([task])
    release.set()
    await eventually(ended.is_set)
    assert await threads.run(lambda: 7) == 7


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, BaseException])
async def test_what_a_function_raises_is_raised(threads, error):
    def fail() -> None:
        raise error

    with pytest.raises(error):
        await threads.run(fail)
    assert await threads.run(lambda: 7) == 7


@pytest.mark.parametrize("error", [StopIteration, GeneratorExit])
async def test_what_a_coroutine_would_misunderstand_is_wrapped(threads, error):
    def fail() -> None:
        raise error

    with pytest.raises(RuntimeError, match=f"the function raised {error.__name__}") as caught:
        await threads.run(fail)
    assert isinstance(caught.value.__cause__, error)


async def test_an_idle_thread_holds_on_to_nothing(threads):
    class Thing:
        pass

    thing = Thing()
    alive = weakref.ref(thing)
    await threads.run(lambda thing=thing: None)
    del thing
    await eventually(lambda: gc.collect() is not None and alive() is None)


async def test_closed_threads_end():
    threads, barrier = Threads(4), threading.Barrier(4)

    def meet() -> threading.Thread:
        barrier.wait(5)
        return threading.current_thread()

    started = await asyncio.gather(*(threads.run(meet) for _ in range(4)))
    assert all(thread.is_alive() and thread.daemon for thread in started)
    threads.close()
    await eventually(lambda: not any(thread.is_alive() for thread in started))


def test_posting_to_a_loop_that_is_gone_says_so():
    loop = asyncio.new_event_loop()
    loop.close()
    assert not post(loop, print)


SLEEPER = """
import asyncio, threading, time
from ephaptic_grpc.threads import Threads

async def main():
    begun = threading.Event()
    def sleep():
        begun.set()
        time.sleep(60)
    task = asyncio.create_task(Threads(1).run(sleep))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    print("sleeping")

asyncio.run(main())
"""


def test_a_sleeper_does_not_hold_the_exit_up():
    done = subprocess.run([sys.executable, "-X", "dev", "-c", SLEEPER], capture_output=True, timeout=20, check=True)
    assert (done.stdout, done.stderr) == (b"sleeping\n", b"")
