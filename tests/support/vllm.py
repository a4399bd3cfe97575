"""A policy server on a real vLLM for tests marked `vllm`: its environment, made once, and the process in it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import attune
import pytest
from attune.domain.revisions import ModelName
from attune.modeling.loading import PolicyShape, new_policy, save_policy
from attune.platform.registry.registry import Registry
from installation import EnvironmentFailed, make
from support.parts import missing
from support.processes import free_port
from tiny_models import tiny_tokenizer

MODEL = ModelName("policies", "support")
SHAPE = PolicyShape(layers=2, width=64, heads=2, mlp_width=96, context=128)
"""vLLM's attention on CPUs takes no heads narrower than 32."""
SMALL_CACHE = 64 * 2**20
SERVICES = Path(next(iter(attune.__path__))).parent
STOP_TIMEOUT_S = 60.0


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter of an environment that has vLLM; the test is skipped where there can be none."""
    try:
        return make()
    except EnvironmentFailed as error:
        missing(f"no vLLM: {error}")


def environment_of_vllm() -> dict[str, str]:
    """For a process in that environment: this tree's sources, and nothing fetched from a hub."""
    return os.environ | {"PYTHONPATH": str(SERVICES), "HF_HUB_OFFLINE": "1"}


def small_policy(folder: Path, seed: int, shape: PolicyShape) -> Path:
    """A saved policy that vLLM takes."""
    tokenizer = tiny_tokenizer()
    save_policy(new_policy(shape, tokenizer, seed), tokenizer, folder)
    return folder


@dataclass
class VllmPolicy:
    """A registry, and a policy server with vLLM that follows it."""

    python: Path
    folder: Path
    settings: tuple[str, ...] = ()
    shape: PolicyShape = SHAPE
    app: str = ""
    control: str = ""
    http_port: int = 0
    metrics_port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.registry = Registry(self.folder / "registry")
        self.epoch = self.registry.take_epoch([MODEL], "test")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def publish(self, shape: PolicyShape | None = None) -> str:
        """A revision with weights of its own, and of a shape of its own if one is given; its full name."""
        name = MODEL.revision(self.registry.next_number(MODEL))
        candidate = small_policy(self.folder / f"candidate-{name.number}", name.number, shape or self.shape)
        self.registry.publish(name, candidate, epoch=self.epoch)
        return str(name)

    def promote(self, name: str, alias: str = "stable") -> None:
        number = int(name.rpartition("/")[2])
        self.registry.move_alias(MODEL, alias, number, epoch=self.epoch, actor="test", reason="")

    def start(self) -> None:
        app, control, self.http_port, self.metrics_port = (free_port() for _ in range(4))
        self.app, self.control = f"127.0.0.1:{app}", f"127.0.0.1:{control}"
        settings = (
            *("engine.name=vllm", f"vllm.arguments.kv_cache_memory_bytes={SMALL_CACHE}"),
            *("vllm.arguments.enforce_eager=true", f"app.port={app}", f"control.port={control}"),
            *(f"http.port={self.http_port}", f"metrics_port={self.metrics_port}", "poll_interval_s=0.05"),
            *(f"registry={self.folder / 'registry'}", f"events_folder={self.folder / 'events'}", *self.settings),
        )
        command = [str(self.python), "-m", "attune.cli.main", "policy"]
        for setting in settings:
            command += ["--set", setting]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment_of_vllm(), stderr=log, stdout=log, start_new_session=True
            )

    def workers(self) -> list[int]:
        """Process ids of the server's children, and of theirs (Linux)."""
        assert self.process
        return [pid for pid in _group(self.process.pid) if pid != self.process.pid]

    def kill(self) -> None:
        """SIGKILL, of the server alone."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        assert self.process
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)

    def end(self) -> None:
        """Kills it and its workers, if they still run."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _group(leader: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may have ended meanwhile
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(group) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found


@contextmanager
def vllm_policy(python: Path, folder: Path, *settings: str, shape: PolicyShape = SHAPE) -> Iterator[VllmPolicy]:
    """A server that follows revision 1 as stable; it is started, and may not serve yet."""
    policy = VllmPolicy(python, folder, settings, shape)
    policy.promote(policy.publish())
    policy.start()
    try:
        yield policy
    finally:
        policy.end()
