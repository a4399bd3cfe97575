"""attune revisions: what it reads from a registry, and what it deletes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from attune.cli.revisions import revisions
from attune.domain.errors import InvalidInput, RevisionUnknown
from attune.domain.revisions import ModelName
from attune.platform.registry.registry import Registry
from click.testing import CliRunner

MODEL = ModelName("policies", "support")
MADE = time.strftime("%m-%d %H:%M", time.localtime(1_767_312_000)).split()


@pytest.fixture
def registry(tmp_path: Path) -> str:
    """Five revisions, the second stable."""
    store = Registry(tmp_path / "registry", clock=lambda: 1_767_312_000.0)
    epoch = store.take_epoch([MODEL], "test")
    for number in range(1, 6):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "model.safetensors").write_text(f"weights {number}")
        store.publish(
            MODEL.revision(number), folder, epoch=epoch, parent=number - 1 or None, metrics={"kl": number / 10}
        )
    store.move_alias(MODEL, "stable", 2, epoch=epoch, actor="test", reason="")
    return str(tmp_path / "registry")


def ask(runner: CliRunner, registry: str, *arguments: str) -> str:
    done = runner.invoke(revisions, [*arguments, "--registry", registry], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_list_is_newest_first_and_names_aliases(runner: CliRunner, registry: str) -> None:
    rows = json.loads(ask(runner, registry, "list", "policies/support", "--json"))
    assert [row["name"][-1] for row in rows] == ["5", "4", "3", "2", "1"]
    assert [row["aliases"] for row in rows] == [["latest"], [], [], ["stable"], []]
    assert rows[0]["metrics"] == {"kl": 0.5}


def test_the_list_is_whole_on_a_terminal_of_eighty_columns(runner: CliRunner, registry: str) -> None:
    table = ask(runner, registry, "list", "policies/support")
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 80
    assert [line.split() for line in table.splitlines() if "kl" in line] == [
        ["5", "latest", *MADE, "4", "kl", "0.5"],
        ["4", *MADE, "3", "kl", "0.4"],
        ["3", *MADE, "2", "kl", "0.3"],
        ["2", "stable", *MADE, "1", "kl", "0.2"],
        ["1", *MADE, "kl", "0.1"],
    ]


def test_an_empty_model_lists_nothing(runner: CliRunner, registry: str) -> None:
    assert json.loads(ask(runner, registry, "list", "rewards/support", "--json")) == []
    assert "holds no revision of rewards/support" in ask(runner, registry, "list", "rewards/support")


@pytest.mark.parametrize("name", ["policies/support/revisions/2", "policies/support/stable", "policies/support/2"])
def test_show_takes_a_name_an_alias_or_a_number(runner: CliRunner, registry: str, name: str) -> None:
    facts = json.loads(ask(runner, registry, "show", name, "--json"))
    assert facts["name"] == "policies/support/revisions/2"
    assert facts["parent"] == 1
    assert facts["files"] == {"model.safetensors": 9}
    shown = ask(runner, registry, "show", name)
    assert shown.startswith("name: policies/support/revisions/2\n")
    assert "model.safetensors: 9" in shown


def test_prune_keeps_what_aliases_name(runner: CliRunner, registry: str) -> None:
    arguments = ("prune", "policies/support", "--keep-last", "1")
    assert "would prune 1, 3" in ask(runner, registry, *arguments, "--dry-run")
    assert json.loads(ask(runner, registry, *arguments, "--also-keep", "3", "--json"))["pruned"] == [1]
    rows = json.loads(ask(runner, registry, "list", "policies/support", "--json"))
    assert [row["pruned"] for row in rows] == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("show", "policies/support/revisions/9"), RevisionUnknown),
        (("show", "7"), InvalidInput),
        (("list", "support"), InvalidInput),
    ],
)
def test_bad_names_are_refused(
    runner: CliRunner, registry: str, arguments: tuple[str, ...], error: type[Exception]
) -> None:
    done = runner.invoke(revisions, [*arguments, "--registry", registry])
    assert isinstance(done.exception, error)
