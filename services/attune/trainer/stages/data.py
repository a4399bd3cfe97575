"""Readers of the stages' training files, in the formats that TRL's users already have.

A line of JSONL holds, for

* pretrain: `text`, or `messages` (a conversation, rendered by the chat template); or the file is plain text, its
  documents parted by blank lines;
* sft: `prompt` and `completion`; or `messages`, each of whose assistant turns is an example;
* reward-model: `prompt` with `chosen` and `rejected`; or with `ranking` (best to worst, a list inside is a tie); or
  with `completion` and `rating` in [0, 1] (and, if there are several raters, `source`).

A prompt is a string, which is taken as bare text, or a list of {"role", "content"}, which goes through the tokenizer's
chat template. A completion is a string or a list of one assistant message. `chosen` and `rejected` may be whole
conversations without `prompt`, which differ in the last message.

Refused with InvalidInput that names file and line: what is no UTF-8 or no JSON object, NaN, missing or misspelt fields,
an empty prompt, an unknown role, ratings out of range, a completion twice in a ranking. Length is judged later, by the
stage, which knows the tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from attune.domain.errors import FieldViolation, InvalidInput
from attune.domain.prompts import ROLES
from attune.trainer.preferences import Chat, Preference

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class SupervisedExample:
    """A demonstration: what to answer to a prompt."""

    prompt: Chat
    completion: str


class _Malformed(Exception):
    """What is wrong with one line and what to do; the reader adds where it stands."""


def read_documents(paths: Sequence[str | Path]) -> list[Chat]:
    """Documents for pretraining, in the order of the files; .jsonl and .json hold lines of JSON, all else plain text.

    A conversation is the list of its messages, closed by the assistant's.
    """
    documents: list[Chat] = []
    for path in map(Path, paths):
        is_jsonl = path.suffix in (".jsonl", ".json")
        found: list[Chat] = list(_parsed(path, parse_document)) if is_jsonl else list(_paragraphs(path))
        documents.extend(_not_empty(found, path))
    return documents


def read_demonstrations(paths: Sequence[str | Path]) -> list[SupervisedExample]:
    """Examples for SFT, in the order of the files."""
    return [
        example
        for path in map(Path, paths)
        for examples in _not_empty(list(_parsed(path, parse_demonstrations)), path)
        for example in examples
    ]


def read_preferences(paths: Sequence[str | Path]) -> list[Preference]:
    """Rankings, pairs and ratings for the reward model, in the order of the files; kinds may be mixed."""
    return [p for path in map(Path, paths) for p in _not_empty(list(_parsed(path, parse_preference)), path)]


def is_validation(prompt: Chat, share: float) -> bool:
    """Whether a prompt (or document) is held out, by its hash: the same prompt never stands on both sides."""
    text = prompt if isinstance(prompt, str) else "\n".join(f"{m['role']}: {m['content']}" for m in prompt)
    digest = hashlib.sha256(" ".join(text.casefold().split()).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def split_by_prompt(items: Iterable[T], prompt_of: Callable[[T], Chat], share: float) -> tuple[list[T], list[T]]:
    """(training, validation), order kept; `share` of the prompts is held out, whatever files and seeds there are."""
    sides: tuple[list[T], list[T]] = ([], [])
    for item in items:
        sides[is_validation(prompt_of(item), share)].append(item)
    return sides


# One line


def parse_document(row: Row) -> Chat:
    """`text`, or the conversation of `messages`."""
    if "messages" in row:
        messages = _messages(row["messages"], "messages")
        if messages[-1]["role"] != "assistant":
            raise _Malformed("the conversation must end with the assistant's message")
        return messages
    text = _field(row, "text")
    if not isinstance(text, str) or not text.strip():
        raise _Malformed("text must be a string that is not empty")
    return text


def parse_demonstrations(row: Row) -> list[SupervisedExample]:
    """`prompt` and `completion`, or every assistant turn of `messages`."""
    if "messages" in row:
        messages = _messages(row["messages"], "messages")
        turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if not turns:
            raise _Malformed("messages hold no assistant turn; there is nothing to learn from it")
        return [_supervised(_prompt(messages[:i]), messages[i]["content"]) for i in turns]
    prompt = _prompt(_field(row, "prompt"))
    return [_supervised(prompt, _completion(_field(row, "completion"), "completion"))]


def parse_preference(row: Row) -> Preference:
    """A ranking, a pair or a rating."""
    if "ranking" in row:
        return _ranking(row)
    if "chosen" in row or "rejected" in row:
        return _pair(row)
    if "rating" in row:
        prompt, text = _prompt(_field(row, "prompt")), _completion(_field(row, "completion"), "completion")
        source = row.get("source", "")
        if not isinstance(source, str):
            raise _Malformed("source must be a string")
        return Preference(prompt, (text,), "rating", value=_rating(row["rating"]), source=source)
    raise _Malformed("needs prompt with chosen and rejected, with ranking, or with completion and rating")


def _supervised(prompt: Chat, completion: str) -> SupervisedExample:
    if not completion.strip():
        raise _Malformed("the completion is empty; leave the line out")
    return SupervisedExample(prompt, completion)


def _ranking(row: Row) -> Preference:
    levels = row["ranking"]
    if not isinstance(levels, list) or not levels:
        raise _Malformed("ranking must be a list of completions, best first; a list inside it is a tie")
    texts: list[str] = []
    tiers: list[tuple[int, ...]] = []
    for level in levels:
        tied = level if isinstance(level, list) and not _is_messages(level) else [level]
        if not tied:
            raise _Malformed("ranking holds an empty tie; leave it out")
        tiers.append(tuple(range(len(texts), len(texts) + len(tied))))
        texts.extend(_completion(item, "ranking") for item in tied)
    return _ranked(_prompt(_field(row, "prompt")), texts, tiers)


def _pair(row: Row) -> Preference:
    chosen, rejected = _field(row, "chosen"), _field(row, "rejected")
    if "prompt" in row:
        prompt = _prompt(row["prompt"])
    elif _is_messages(chosen) and _is_messages(rejected):
        prompt = _prompt(_messages(chosen[:-1], "chosen"))
        if chosen[:-1] != rejected[:-1]:
            raise _Malformed("chosen and rejected differ before their last message; give the prompt apart")
        chosen, rejected = chosen[-1:], rejected[-1:]
    else:
        raise _Malformed("has no prompt; add one, or make chosen and rejected lists of messages")
    texts = [_completion(chosen, "chosen"), _completion(rejected, "rejected")]
    return _ranked(prompt, texts, [(0,), (1,)])


def _ranked(prompt: Chat, texts: list[str], tiers: list[tuple[int, ...]]) -> Preference:
    if len(texts) < 2:
        raise _Malformed("a ranking needs at least two completions")
    if len(set(texts)) < len(texts):
        raise _Malformed("a completion stands twice; name each once")
    return Preference(prompt, tuple(texts), "ranking", tiers=tuple(tiers))


def _rating(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Malformed("rating must be a number in [0, 1]; a thumb is 0 or 1")
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise _Malformed(f"rating {value} is outside [0, 1]; rescale it")
    return float(value)


def _prompt(value: object) -> Chat:
    if isinstance(value, str):
        if not value.strip():
            raise _Malformed("the prompt is empty")
        return value
    messages = _messages(value, "prompt")
    if messages[-1]["role"] == "assistant":
        raise _Malformed("the prompt's last message is the assistant's; move it to the completion")
    return messages


def _completion(value: object, field: str) -> str:
    if isinstance(value, str):
        return value
    messages = _messages(value, field)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise _Malformed(f"{field} must be a string or one assistant message; move other turns to the prompt")
    return messages[0]["content"]


def _messages(value: object, field: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise _Malformed(f'{field} must be a string or a list of {{"role", "content"}} that is not empty')
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise _Malformed(f'{field} holds something else than {{"role", "content"}} with text')
        if message.get("role") not in ROLES:
            raise _Malformed(f"{field} has the role {message.get('role')!r}; roles are {', '.join(ROLES)}")
        if message["role"] != "assistant" and not message["content"].strip():
            raise _Malformed(f"{field} has an empty {message['role']} message")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _is_messages(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _field(row: Row, name: str) -> Any:
    if name not in row:
        raise _Malformed(f"has no {name}; its fields are {', '.join(sorted(row)) or 'none'}")
    return row[name]


# Files


def _parsed(path: Path, parse: Callable[[Row], T]) -> Iterator[T]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_refuse_constant)
            if not isinstance(row, dict):
                raise _Malformed("must be a JSON object")
            parsed = parse(row)
        except json.JSONDecodeError as error:
            raise _at(path, number, f"is not valid JSON ({error.msg}); write one object a line") from error
        except _Malformed as error:
            raise _at(path, number, str(error)) from error
        yield parsed


def _paragraphs(path: Path) -> list[str]:
    documents: list[list[str]] = [[]]
    for line in _lines(path):
        if line.strip():
            documents[-1].append(line.rstrip("\r\n"))
        elif documents[-1]:
            documents.append([])
    return ["\n".join(lines) for lines in documents if lines]


def _lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file, read as bytes so that the bad one can be named."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    with file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _at(path, number, "is not UTF-8; convert the file") from error


def _not_empty(found: list[T], path: Path) -> list[T]:
    if not found:
        raise InvalidInput(f"{path} holds no examples")
    return found


def _at(path: Path, number: int, problem: str) -> InvalidInput:
    where = f"{path}:{number}"
    return InvalidInput(f"{where}: {problem}", violations=[FieldViolation(where, problem)])


def _refuse_constant(name: str) -> NoReturn:
    raise _Malformed(f"holds {name}, which is no number; remove the line or repair it")
