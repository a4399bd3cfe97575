"""The life of a process: it ends by a signal, by a failed task, or with its supervisor, and says how."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from attune.domain.errors import ConfigurationInvalid, RegistryCorrupt
from attune.platform.lifecycle import EXIT_FAILED, EXIT_MISCONFIGURED, PARENT_VARIABLE, run, until_stopped
from support.eventually import eventually_sync


async def forever() -> None:
    await asyncio.Event().wait()


async def test_the_first_failed_task_rises_and_the_others_are_cancelled() -> None:
    cancelled = asyncio.Event()

    async def worker() -> None:
        try:
            await forever()
        finally:
            cancelled.set()

    async def fails() -> None:
        raise RegistryCorrupt("torn")

    with pytest.raises(RegistryCorrupt):
        await asyncio.wait_for(until_stopped(asyncio.Event(), [worker(), fails()]), 5)
    assert cancelled.is_set()


async def test_a_worker_that_ends_by_itself_is_a_failure() -> None:
    with pytest.raises(RuntimeError, match="ended by itself"):
        await asyncio.wait_for(until_stopped(asyncio.Event(), [asyncio.sleep(0)]), 5)


async def test_a_stop_ends_it_without_an_error() -> None:
    stop, ended = asyncio.Event(), asyncio.Event()
    stop.set()

    async def worker() -> None:
        try:
            await forever()
        finally:
            ended.set()

    await asyncio.wait_for(until_stopped(stop, [worker()]), 5)
    assert ended.is_set()


async def test_a_failure_while_stopping_is_not_swallowed() -> None:
    stop = asyncio.Event()

    async def fails_at_the_end() -> None:
        try:
            await forever()
        finally:
            raise RegistryCorrupt("torn at the end")

    task = asyncio.create_task(until_stopped(stop, [fails_at_the_end()]))
    await asyncio.sleep(0)
    stop.set()
    with pytest.raises(RegistryCorrupt):
        await asyncio.wait_for(task, 5)


def exit_status(error: Exception | None) -> int:
    async def main(stop: asyncio.Event) -> None:
        if error:
            raise error

    return run(main)


def test_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(None) == 0
    assert exit_status(RegistryCorrupt("torn")) == EXIT_FAILED
    assert exit_status(ValueError("unexpected")) == EXIT_FAILED
    assert exit_status(ConfigurationInvalid("there is no setting x")) == EXIT_MISCONFIGURED
    assert "attune: there is no setting x" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_only_sets_the_event(number: signal.Signals) -> None:
    async def main(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 5)

    assert run(main) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can tell a child that its parent died")
def test_a_stop_while_starting_ends_the_process_without_an_error() -> None:
    program = """
        import os, signal
        from attune.platform.lifecycle import stop_while_starting
        stop_while_starting()
        os.kill(os.getpid(), signal.SIGTERM)
        print("goes on", flush=True)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_child_dies_with_its_supervisor() -> None:
    child = """
        import signal
        from attune.platform.lifecycle import die_with_parent
        die_with_parent()
        print("ready", flush=True)
        signal.pause()
    """
    supervisor = f"""
        import os, signal, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", {textwrap.dedent(child)!r}], stdout=subprocess.PIPE,
                                 env=os.environ | {{{PARENT_VARIABLE!r}: str(os.getpid())}})
        child.stdout.readline()
        print(child.pid, flush=True)
        signal.pause()
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(supervisor)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    eventually_sync(lambda: not is_alive(pid))


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
