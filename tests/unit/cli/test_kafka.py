"""The option --kafka: an address or a file, and topics made on the way."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from attune.cli.kafka import TopicsSettings, kafka_flags, make_topics, open_topics
from attune.domain.errors import ConfigurationInvalid
from attune.platform.config import load_settings
from broker import Broker


def test_an_address_and_nothing() -> None:
    assert kafka_flags("") == []
    assert kafka_flags("a:9092,b:9092") == ["kafka.bootstrap=a:9092,b:9092"]


def test_a_file_means_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('[kafka]\nbootstrap = "a:9092"\ntls = true\nappend_timeout_s = 2.5\ntopic_prefix = "team."\n')
    settings = load_settings(TopicsSettings, kafka_flags(str(file))).kafka
    given = tomllib.loads(file.read_text())["kafka"]
    assert {key: getattr(settings, key) for key in given} == given


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bootstrap =", "cannot be read"),
        ('bootstrap = "a:9092"\n', "one section"),
        ('[kafka]\nbootstrap = "a:9092"\n[other]\nx = 1\n', "one section"),
        ('[kafka]\npassword = "open"\n', "password_file"),
    ],
    ids=["no TOML", "no section", "another section", "a password"],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationInvalid, match=said):
        kafka_flags(str(file))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="cannot be read"):
        kafka_flags(str(tmp_path / "none.toml"))


def test_no_cluster_is_no_guess() -> None:
    with pytest.raises(ConfigurationInvalid, match="say which cluster"):
        open_topics([])


@pytest.mark.kafka
def test_topics_are_made_and_told_once(broker: Broker, topic_prefix: str) -> None:
    said: list[str] = []
    flags = [*kafka_flags(str(broker.settings())), f"kafka.topic_prefix={topic_prefix}"]
    make_topics(flags, said.append)
    assert len(said) == 1
    assert f"{topic_prefix}attune.generations" in said[0]
    make_topics(flags, said.append)
    assert len(said) == 1
