"""The life of a process: signals set an event, the first failure ends it, and what was opened is closed in order.

Every main.py is the same: 1 configuration, 2 telemetry, 3 dependencies on an exit stack, 4 the worker, 5 servers with
health NOT_SERVING, 6 weights then SERVING, 7 `until_stopped`, 8 NOT_SERVING, grace, unwind. `run` is the process main,
one of the three places with a broad except: it turns what nobody could mend into one readable line and exit status 1.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable

from attune.domain.errors import AttuneError, ConfigurationInvalid

log = logging.getLogger(__name__)
EXIT_FAILED, EXIT_MISCONFIGURED = 1, 2
PARENT_VARIABLE = "ATTUNE_SUPERVISOR_PID"
_PR_SET_PDEATHSIG = 1


def run(
    main: Callable[[asyncio.Event], Awaitable[None]], new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> int:
    """Runs `main(stop)` to its end and returns the exit status; SIGTERM and SIGINT set `stop`.

    `new_loop` makes the event loop where a service wants another than asyncio's.
    """
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_with_signals(main))
    except ConfigurationInvalid as error:
        print(f"attune: {error.message}", file=sys.stderr)
        return EXIT_MISCONFIGURED
    except KeyboardInterrupt:
        return EXIT_FAILED
    except Exception as error:
        log.critical("the process ends: %s", error, exc_info=not isinstance(error, AttuneError))
        return EXIT_FAILED
    return 0


def stop_while_starting() -> None:
    """Makes a SIGTERM that comes before `run` end the process; process 1 of a container would not hear it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


async def _with_signals(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(stop)


async def until_stopped(stop: asyncio.Event, tasks: Iterable[Awaitable[object]]) -> None:
    """Waits for the stop or the end of any task; raises the task's failure. Tasks still running are cancelled.

    A worker that ends without failing before the stop was asked for is a failure too.
    """
    workers = [asyncio.ensure_future(task) for task in tasks]
    waiting = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([waiting, *workers], return_when="FIRST_COMPLETED")
        for worker in workers:
            if worker.done() and not stop.is_set():
                worker.result()
                raise RuntimeError("a worker ended by itself")
    finally:
        for task in (waiting, *workers):
            task.cancel()
        results = await asyncio.gather(*workers, return_exceptions=True)
        waiting.cancel()
    for result in results:
        if isinstance(result, Exception):
            raise result


async def cancelled(task: asyncio.Task[None]) -> None:
    """Cancels a task and waits for its end, whatever it ends with: who awaited it has heard."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def die_with_parent(environ: dict[str, str] | None = None) -> None:
    """Asks the kernel to kill this process when the supervisor that started it dies (Linux); elsewhere nothing.

    The supervisor names itself in ATTUNE_SUPERVISOR_PID; without it the process lives on its own.
    """
    parent = (environ or dict(os.environ)).get(PARENT_VARIABLE, "")
    if not parent.isdigit() or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)
