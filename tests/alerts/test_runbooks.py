"""The runbooks: a page for every alert, in one form, and every command on them exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from attune.cli.main import attune
from support.prometheus import ROOT, alerts

RUNBOOKS = ROOT / "deploy" / "runbooks"
PAGES = sorted(RUNBOOKS.glob("Attune*.md"))
COMMAND = re.compile(r"^attune .+$|(?<=`)attune [^`]+(?=`)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#]+)\)")


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    assert {page.stem for page in PAGES} == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_it_means_what_to_look_at_and_what_to_do(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    assert [part.splitlines()[0] for part in parts[1:]] == ["What it means", "What to look at", "What to do"]
    assert all(len(part.split()) > 12 for part in parts[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", [*PAGES, RUNBOOKS / "README.md"], ids=lambda page: page.stem)
def test_every_command_exists_with_its_options(page: Path) -> None:
    for line in COMMAND.findall(page.read_text()):
        words = shlex.split(line.partition("  #")[0])[1:]
        if words != ["COMMAND", "--help"]:
            check(words)


def check(words: list[str]) -> None:
    """Fails if the words are no command, or have an option that it lacks; arguments stand for those of a reader."""
    command: click.Command = attune
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None
        command = found
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= options | {"--help"}
