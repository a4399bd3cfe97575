"""Judges from elsewhere, and their scale: what the users want may be any function of prompt and completion.

`load_judge` takes FILE.py:FUNCTION and holds the function to its promise, a finite number. `Standardised` puts a judge
on the scale of the entering policy's answers, so that ranking noise and thumbs mean the same whatever it measures.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from attune.domain.errors import InvalidInput

Judge = Callable[[str, str], float]

STD_FLOOR = 1e-6  # relative to the largest score, for a judge that likes all the entering answers alike


class BadJudge(InvalidInput):
    """A judge that cannot be loaded, or does not return a finite number; the message says what to change."""


def load_judge(where: str) -> Judge:
    """The judge at "FILE.py:FUNCTION", called as FUNCTION(prompt, completion); BadJudge when there is none."""
    file, _, function_name = where.rpartition(":")
    if not file or not function_name.isidentifier():
        raise BadJudge(f"{where!r}: name a judge as FILE.py:FUNCTION")
    if not Path(file).is_file():
        raise BadJudge(f"{where!r}: there is no file {file}")
    spec = importlib.util.spec_from_file_location(f"judge_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise BadJudge(f"{where!r}: {file} is no Python file, its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise BadJudge(f"{where!r}: {file} does not load: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise BadJudge(f"{where!r}: {file} has no function {function_name}")
    return checked(function, where)


def checked(function: Callable[[str, str], object], where: str) -> Judge:
    """The judge, refusing with BadJudge whatever is no finite number."""

    def judge(prompt: str, completion: str) -> float:
        result = function(prompt, completion)
        if isinstance(result, str) or not hasattr(result, "__float__") or not math.isfinite(float(result)):
            raise BadJudge(f"{where}: returned {result!r}, a judge returns a finite number")
        return float(result)

    return judge


@dataclass(frozen=True)
class Standardised:
    """A judge in standard deviations of the entering policy's answers."""

    judge: Judge
    mean: float
    std: float
    median: float
    """Of the raw scores, like mean and std."""

    @classmethod
    def over(cls, judge: Judge, answers: Iterable[tuple[str, str]]) -> Standardised:
        """The scale of (prompt, completion) pairs; ValueError when there are none."""
        scores = [judge(prompt, completion) for prompt, completion in answers]
        if not scores:
            raise ValueError("a judge is standardised over at least one answer")
        floor = STD_FLOOR * max(1.0, *map(abs, scores))
        return cls(judge, statistics.fmean(scores), max(statistics.pstdev(scores), floor), statistics.median(scores))

    def __call__(self, prompt: str, completion: str) -> float:
        return (self.judge(prompt, completion) - self.mean) / self.std

    @property
    def standardised_median(self) -> float:
        """Where thumbs turn from down to up."""
        return (self.median - self.mean) / self.std
