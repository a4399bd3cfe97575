"""Both images, built from the Dockerfile, and every service in a container: locked in, ready, answering, drained."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from attune.client import Client, Rating, new_event
from attune.client.calls import Connection
from attune.client.control import FeedbackControlClient, TrainerClient
from attune.domain.errors import FeedbackUnknown
from attune.domain.ids import uuid7
from attune.platform.registry.registry import Registry
from support import images
from support.eventually import eventually_sync
from support.processes import free_port
from support.s3 import S3Server
from support.training import publish_first

pytestmark = [pytest.mark.image, pytest.mark.slow, pytest.mark.timeout(1800)]
APP = "shop"
READY_S, GRACE_S, SLACK_S = 120.0, 10.0, 5.0
MAX_SLIM_BYTES = 200_000_000


@pytest.fixture(scope="session")
def slim() -> str:
    images.require()
    return images.build("slim")


@pytest.fixture(scope="session")
def full() -> str:
    images.require()
    return images.build("full", *images.torch_index(os.environ))


@contextmanager
def serving(
    image: str, command: Sequence[str], port_key: str, data: Path, settings: Sequence[str], environment: dict[str, str]
) -> Iterator[str]:
    """The address of a service in a container, once it serves. At the end it must have drained within its budget."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    flags = [*settings, "metrics_port=0", f"{port_key}={port}"]
    arguments = [*command, *(part for flag in flags for part in ("--set", flag))]
    with images.running(image, arguments, data, environment) as container:
        with Connection(address) as connection:
            connection.wait_until_serving(READY_S)
        check_is_locked_in(container)
        yield address
        asked = time.monotonic()
        container.terminate()
        assert container.wait() == 0
        assert time.monotonic() - asked < GRACE_S + SLACK_S


def check_is_locked_in(container: images.Container) -> None:
    """What the kernel says, from outside."""
    status = container.status()
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(images.USER)}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert "ro" in container.root_options()


@pytest.fixture
def data(tmp_path: Path) -> Callable[[str], Path]:
    """Makes the folder of a container's volume."""

    def make(name: str) -> Path:
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True)
        return folder

    return make


def test_slim_is_small_and_holds_no_torch(slim: str) -> None:
    assert images.compressed_bytes(slim) < MAX_SLIM_BYTES
    with pytest.raises(RuntimeError, match="No module named 'torch'"):
        images.run_python(slim, "import torch")
    images.run_python(slim, "import attune.feedback.ingest.main, attune.feedback.join.main, psycopg, s3fs")


def test_labels_and_user_are_those_of_the_commit(slim: str) -> None:
    found = images.config(slim)
    assert found["User"] == f"{images.USER}:{images.USER}"
    assert found["Entrypoint"] == ["attune"]
    labels = found["Labels"]
    assert isinstance(labels, dict)
    assert labels["org.opencontainers.image.title"] == "attune-slim"
    assert f"REVISION={labels['org.opencontainers.image.revision']}" in images.labels()


def test_ingest_and_join_serve_in_slim(slim: str, data: Callable[[str], Path]) -> None:
    folder = data("feedback")
    with (
        serving(slim, ["feedback", "ingest"], "app.port", folder, [f"grace_s={GRACE_S}"], {}) as ingest,
        serving(slim, ["feedback", "join"], "control.port", folder, [f"grace_s={GRACE_S}"], {}) as join,
    ):
        event = new_event(APP, Rating(f"{uuid7()}/0", 1.0), subject_id="ada")
        with Client(app_id=APP, feedback_address=ingest) as client:
            assert client.submit(event).event_id == event.event_id
        with FeedbackControlClient(join) as control:
            eventually_sync(lambda: state_of(control, event.event_id) == "PENDING", READY_S)


@pytest.mark.timeout(120)
def test_a_stop_that_comes_while_a_service_starts_is_heard(slim: str, data: Callable[[str], Path]) -> None:
    """By process 1 of the container, for which the kernel has no default action."""
    settings = ["--set", "app.port=0", "--set", "metrics_port=0"]
    with images.running(slim, ["feedback", "ingest", *settings], data("early"), {}) as container:
        eventually_sync(lambda: int(container.status()["SigCgt"], 16) & 1 << (signal.SIGTERM - 1), READY_S)
        container.terminate()
        assert container.wait() == 0


def state_of(control: FeedbackControlClient, event_id: str) -> str:
    try:
        return control.get_feedback(APP, event_id).state.name
    except FeedbackUnknown:
        return ""


def test_policy_reward_and_trainer_serve_in_full_from_a_registry_on_s3(
    full: str, data: Callable[[str], Path], s3: S3Server, tmp_path: Path
) -> None:
    registry = f"s3://{s3.new_bucket()}/registry"
    publish_first(Registry(registry), tmp_path / "models")
    where = [f"registry={registry}", "control.port=0"]

    def service(name: str, port_key: str, *settings: str) -> AbstractContextManager[str]:
        return serving(full, [name], port_key, data(name), [*where, *settings], s3.environment)

    with (
        service("policy", "app.port", "policy=tiny") as policy,
        service("reward", "app.port", "reward_model=tiny") as reward,
        Client(app_id=APP, policy_address=policy, reward_address=reward) as client,
    ):
        generation = client.generate("hello 1", max_tokens=4).generation
        assert len(client.score([("hello 1", generation.completions[0].text)]).raw) == 1
    names = ["policy=tiny", "reward_model=tiny", "gate_model=tiny-gate"]
    with service("trainer", "control.port", *names) as trainer, TrainerClient(trainer) as control:
        assert control.status().policy_revision == "policies/tiny/revisions/1"
