"""attune topics: what it makes and finds on a real broker, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attune.cli.topics import topics
from attune.domain.errors import ConfigurationInvalid, EventLogUnavailable
from attune.platform.events.settings import KafkaSettings
from broker import Broker
from click.testing import CliRunner
from support.kafka import set_topic


@pytest.mark.kafka
def test_create_then_check_then_find_what_was_changed(runner: CliRunner, broker: Broker, topic_prefix: str) -> None:
    cluster = ["--kafka", broker.address, "--set", f"kafka.topic_prefix={topic_prefix}", "--partitions", "2"]
    assert runner.invoke(topics, ["check", *cluster]).exit_code == 1
    made = runner.invoke(topics, ["create", *cluster])
    assert made.exit_code == 0
    assert f"made {topic_prefix}attune.feedback" in made.output
    checked = runner.invoke(topics, ["check", *cluster])
    assert (checked.exit_code, checked.output) == (0, "all topics are as they should be\n")
    name = f"{topic_prefix}attune.feedback"
    set_topic(KafkaSettings(bootstrap=broker.address), name, cleanup_policy="compact")
    found = runner.invoke(topics, ["check", *cluster, "--json"])
    assert found.exit_code == 1
    difference = {"topic": name, "setting": "cleanup.policy", "wanted": "delete", "found": "compact"}
    assert json.loads(found.stdout) == {"made": [], "differences": [difference]}
    table = runner.invoke(topics, ["create", *cluster], env={"COLUMNS": "200"})
    assert table.exit_code == 1
    assert "cleanup.policy" in table.output


@pytest.mark.kafka
def test_settings_come_from_a_file(runner: CliRunner, broker: Broker, topic_prefix: str, tmp_path: Path) -> None:
    config = tmp_path / "cluster.toml"
    config.write_text(f'[kafka]\nbootstrap = "{broker.address}"\ntopic_prefix = "{topic_prefix}"\n')
    assert runner.invoke(topics, ["create", "--kafka", str(config)]).exit_code == 0


def test_no_cluster_is_no_guess(runner: CliRunner) -> None:
    result = runner.invoke(topics, ["check"])
    assert isinstance(result.exception, ConfigurationInvalid)
    assert "say which cluster" in result.exception.message


def test_a_cluster_that_does_not_answer_is_named(runner: CliRunner) -> None:
    result = runner.invoke(topics, ["check", "--kafka", "127.0.0.1:1", "--set", "kafka.request_timeout_s=0.1"])
    assert isinstance(result.exception, EventLogUnavailable)
    assert "127.0.0.1:1" in result.exception.message
