"""How many feedback events the join takes a core-second, and what that costs as its database grows.

    python tests/benchmarks/join.py --millions 1,3,10 --database sqlite,postgres

The log is written part by part and read by the join's own consumer in a process of its own; only that process is
measured (getrusage: user and system), and beside it the server of a PostgreSQL. A figure at N million is that of the
last parts before the mark. With `--folder`, a run that was ended goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from attune.feedback.join.config import JoinSettings
from attune.feedback.join.consumer import JoinConsumer, collect_rarely
from attune.feedback.join.database import open_database
from attune.feedback.join.metrics import JoinMetrics
from attune.feedback.join.store import Store
from attune.feedback.join.tail import Tail
from attune.platform.events.log import Topic
from attune.platform.events.sqlite import SqliteEventLog
from benchmarks.feedback_traffic import EVENTS_PER_GENERATION, time_of, written
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from support.postgres import running

PART, SLICE = 100_000, 5000
PARTS_A_FIGURE = 3
MILLION = 1_000_000
TOPICS = (Topic.GENERATIONS, Topic.FEEDBACK)
POSTGRES_SCHEMA = "join_bench"


@dataclass(frozen=True)
class Part:
    """What the events up to `end` took since the part before; `memory_bytes` is the greatest seen meanwhile.

    One that an ended run had begun to read counts for no figure.
    """

    end: int
    cpu_s: float
    server_cpu_s: float
    wall_s: float
    memory_bytes: int
    is_whole: bool


@dataclass(frozen=True)
class Figure:
    """The figures at a number of events in the store."""

    events: int
    events_per_core_s: float
    with_server: float
    events_per_s: float
    memory_mib: float

    @classmethod
    def at(cls, events: int, parts: Sequence[Part]) -> Figure:
        """From the last parts up to the mark."""
        last = [part for part in parts if part.end <= events and part.is_whole][-PARTS_A_FIGURE:]
        cpu_s, server_cpu_s, wall_s = (
            sum(getattr(part, name) for part in last) for name in ("cpu_s", "server_cpu_s", "wall_s")
        )
        done = PART * len(last)
        memory_mib = max(part.memory_bytes for part in last) / 2**20
        return cls(events, done / cpu_s, done / (cpu_s + server_cpu_s), done / wall_s, memory_mib)


class Log:
    """The event log of a run: holds the part that is being read and forgets those before."""

    def __init__(self, folder: Path) -> None:
        self._now_s = 0.0
        events = SqliteEventLog(folder, clock=lambda: self._now_s, retention_s=dict.fromkeys(TOPICS, 1.0))
        self._producers = {topic: events.producer(topic) for topic in TOPICS}

    def write(self, first: int, end: int) -> None:
        for at in range(first, end, SLICE):
            self._now_s = time_of(at + SLICE)
            part = written(at, at + SLICE)
            self._producers[Topic.GENERATIONS].append(part.generations)
            self._producers[Topic.FEEDBACK].append(part.feedback)

    def forget(self) -> None:
        for producer in self._producers.values():
            producer.trim(self._now_s + 2)


class Progressed:
    """How far a run has come, in a file: parts that are measured, and how far the log is written."""

    def __init__(self, file: Path) -> None:
        self._file = file
        kept = json.loads(file.read_text()) if file.exists() else {"written": 0, "parts": []}
        self.written: int = kept["written"]
        self.parts = [Part(**part) for part in kept["parts"]]

    @property
    def end(self) -> int:
        return self.parts[-1].end if self.parts else 0

    def save(self) -> None:
        kept = {"written": self.written, "parts": [asdict(part) for part in self.parts]}
        self._file.write_text(json.dumps(kept))


def consume(pipe: Connection, folder: Path, url: str) -> None:
    """The measured process: reads the log to its end whenever it is told the log's time, and tells what that took."""
    now_s = 0.0
    log, settings = SqliteEventLog(folder), JoinSettings()
    store = Store(open_database(url), settings.limits(), Topic.FEEDBACK)
    consumers = {topic: log.consumer(topic) for topic in TOPICS}
    tail = Tail(consumers, store.offset, batch_records=settings.batch_records, clock=lambda: now_s)
    consumer = JoinConsumer(
        store,
        tail,
        log.producer(Topic.DEAD_LETTERS),
        JoinMetrics(CollectorRegistry()),
        feedback_retention_s=settings.feedback_retention_s,
        clock=lambda: now_s,
    )
    collect_rarely()
    pipe.send(None)
    while now_s := pipe.recv():
        before, memory_bytes = _cpu_s(), 0
        while consumer.step():
            memory_bytes = max(memory_bytes, _memory_bytes())
        consumer.sweep()
        pipe.send((_cpu_s() - before, memory_bytes))


def measured(folder: Path, url: str, server_cpu_s: Callable[[], float], marks: Sequence[int], label: str) -> list[Part]:
    """Runs up to the last mark, on from where the folder is, and gives all parts."""
    folder.mkdir(parents=True, exist_ok=True)
    so_far, log = Progressed(folder / "progress.json"), Log(folder)
    with _consumer(folder, url) as read, Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=marks[-1], completed=so_far.end)
        while so_far.end < marks[-1]:
            end = so_far.end + PART
            is_whole = so_far.written < end
            if is_whole:
                log.write(so_far.end, end)
                so_far.written = end
                so_far.save()
            started, server_before = time.monotonic(), server_cpu_s()
            cpu_s, memory_bytes = read(time_of(end))
            wall_s, server_s = time.monotonic() - started, server_cpu_s() - server_before
            so_far.parts.append(Part(end, cpu_s, server_s, wall_s, memory_bytes, is_whole))
            so_far.save()
            log.forget()
            progress.update(task, completed=end, description=f"{label}, {PART / cpu_s:,.0f} a core-second")
    return so_far.parts


@contextmanager
def _consumer(folder: Path, url: str) -> Iterator[Callable[[float], tuple[float, int]]]:
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=consume, args=[theirs, folder, url], daemon=True)
    process.start()
    theirs.close()
    pipe.recv()

    def read(now_s: float) -> tuple[float, int]:
        pipe.send(now_s)
        took: tuple[float, int] = pipe.recv()
        return took

    yield read
    pipe.send(0.0)
    process.join()


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def on_sqlite(folder: Path, marks: Sequence[int]) -> list[Figure]:
    folder = folder / "sqlite"
    parts = measured(folder, f"sqlite:///{folder}/join.db", lambda: 0.0, marks, "SQLite")
    return [Figure.at(mark, parts) for mark in marks]


def on_postgres(folder: Path, marks: Sequence[int]) -> list[Figure]:
    """On a server of its own that is as durable as SQLite; it does not outlive the run."""
    with running(is_durable=True) as server, tempfile.TemporaryDirectory(dir=folder) as fresh:
        parts = measured(Path(fresh), server.url(POSTGRES_SCHEMA), server.cpu_s, marks, "PostgreSQL")
    return [Figure.at(mark, parts) for mark in marks]


def print_table(figures: dict[str, list[Figure]]) -> None:
    table = Table(title="the join: feedback events a core-second")
    for heading in ("database", "events in store", "a core-second", "with generations", "with server", "a second"):
        table.add_column(heading, justify="left" if heading == "database" else "right")
    table.add_column("memory, MiB", justify="right")
    for database, found in figures.items():
        for figure in found:
            entries = figure.events_per_core_s * (1 + 1 / EVENTS_PER_GENERATION)
            numbers = (figure.events, figure.events_per_core_s, entries, figure.with_server, figure.events_per_s)
            table.add_row(database, *(f"{number:,.0f}" for number in (*numbers, figure.memory_mib)))
    Console().print(table)


def result(figures: dict[str, list[Figure]]) -> dict[str, Any]:
    """The last line: the lowest rate of SQLite, and how far rate and memory move as the store grows."""
    found: dict[str, Any] = {"name": "join"}
    for database, ours in figures.items():
        suffix = "" if database == "sqlite" else f"_{database}"
        rates, memory = [f.events_per_core_s for f in ours], [f.memory_mib for f in ours]
        found[f"join_events_per_core_s{suffix}"] = round(min(rates))
        found[f"join_by_events{suffix}"] = {str(f.events): round(f.events_per_core_s) for f in ours}
        found[f"join_memory_mib{suffix}"] = {str(f.events): round(f.memory_mib) for f in ours}
        found[f"join_rate_last_over_first{suffix}"] = round(rates[-1] / rates[0], 3)
        found[f"join_memory_last_over_first{suffix}"] = round(memory[-1] / memory[0], 3)
        if database != "sqlite":
            found[f"join_events_per_core_s{suffix}_with_server"] = round(min(f.with_server for f in ours))
    return found


RUNS = {"sqlite": on_sqlite, "postgres": on_postgres}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", default="1", help="marks in millions of events, such as 1,3,10")
    parser.add_argument("--database", default="sqlite", help="sqlite, postgres, or both with a comma")
    parser.add_argument("--folder", type=Path, help="keeps what SQLite needs to go on; about 2.5 GB a million")
    arguments = parser.parse_args()
    marks = [round(float(million) * MILLION) for million in arguments.millions.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = {name: RUNS[name](folder, marks) for name in arguments.database.split(",")}
    print_table(figures)
    print(json.dumps(result(figures)))


if __name__ == "__main__":
    main()
