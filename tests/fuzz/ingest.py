"""Malformed requests at real ingest processes, over both doors: no crash, no 500, no UNKNOWN, the right status each.

`python -m fuzz.ingest --requests 100000` (with tests on the path; `make fuzz-ingest` does it). The damage comes of one
seed, so a run can be repeated. The process behind gRPC is open, so that events of any app are looked into; the one
behind HTTP asks for keys. At the end both must still serve, must have logged no error, and must hold every event that
they acknowledged. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attune.api.events.v1 import events_pb2
from attune.client import Access, AsyncClient, Rating, new_event
from attune.client.tokens import sign_feedback_token
from attune.domain.access import Scope
from attune.domain.feedback import FeedbackEvent
from attune.platform.access.keys import Key, write_keys
from attune.platform.events.log import Topic
from attune.platform.events.sqlite import SqliteEventLog
from broker import free_ports
from fuzz import grpc_requests, http_requests
from fuzz.verdicts import Verdicts
from google.protobuf.json_format import MessageToDict
from hypothesis import HealthCheck, Phase, given, seed, settings
from unit.domain.made import events
from unit.domain.test_canonical import protos

APP, KEY, SECRET = "fuzz", f"attune_{'0' * 12}_{'k' * 43}", "s" * 32
KEPT = Key(
    id="0" * 12, name=APP, scopes=(Scope.FEEDBACK,), sha256=hashlib.sha256(KEY.encode()).hexdigest(), create_time=0.0
)
GENERATION = "01890a5d-ac96-774b-bcce-b302099a8057"
IN_FLIGHT = 32
GOOD_EVENTS, STRANGE_EVENTS = 200, 5000


@dataclass(frozen=True)
class Ingest:
    """The running process."""

    process: asyncio.subprocess.Process
    grpc_port: int
    http_port: int
    log: Path

    def errors(self) -> list[str]:
        """What it logged as an error."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if '"level": "error"' in line or '"level": "critical"' in line]


@asynccontextmanager
async def running(folder: Path, *, asks_for_keys: bool = False) -> AsyncIterator[Ingest]:
    """The process, with its events and its log in the folder; it may know KEY, and tokens that SECRET signed."""
    ports = free_ports(2)
    flags = [f"app.port={ports[0]}", f"http.port={ports[1]}", "metrics_port=0", f"events_folder={folder / 'events'}"]
    arguments = [part for flag in flags for part in ("--set", flag)]
    secrets: dict[str, str] = {}
    if asks_for_keys:
        write_keys(folder / "keys.json", [KEPT])
        arguments += ["--set", f"keys_file={folder / 'keys.json'}"]
        secrets = {"ATTUNE_INGEST_HTTP__TOKEN_KEYS": json.dumps({APP: {"1": SECRET}})}
    command = [sys.executable, "-m", "attune.cli.main", "feedback", "ingest", *arguments]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | secrets, stderr=log)
    try:
        async with AsyncClient(app_id=APP, feedback_address=f"127.0.0.1:{ports[0]}") as client:
            await client.wait_until_serving(60)
        yield Ingest(process, ports[0], ports[1], folder / "log")
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)


def examples(strategy: Any, count: int, number: int) -> list[Any]:
    """Values that hypothesis draws, the same for the same seed."""
    found: list[Any] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(value: Any) -> None:
        found.append(value)

    draw()
    return found


async def attack(open_one: Ingest, keyed: Ingest, count: int, number: int, verdicts: Verdicts) -> None:
    """Sends `count` requests, six of ten over gRPC, IN_FLIGHT at a time over each door."""
    chance = random.Random(number)
    good: list[FeedbackEvent] = examples(events(), GOOD_EVENTS, number)
    strange = examples(protos(), min(STRANGE_EVENTS, max(50, count // 5)), number)
    over_grpc = count * 6 // 10
    await asyncio.gather(
        attack_grpc(open_one, over_grpc, good, strange, chance, verdicts),
        attack_http(keyed, count - over_grpc, good, chance, verdicts),
    )


async def attack_grpc(
    ingest: Ingest, count: int, good: list[FeedbackEvent], strange: list[Any], chance: random.Random, verdicts: Verdicts
) -> None:
    wires = [event.to_proto().SerializeToString() for event in good]
    found = grpc_requests.requests(wires, itertools.cycle(proto.SerializeToString() for proto in strange), chance)
    caller = grpc_requests.Caller(f"127.0.0.1:{ingest.grpc_port}", verdicts)
    await at_once(caller.send(request) for request in itertools.islice(found, count))
    await caller.close()


async def attack_http(
    ingest: Ingest, count: int, good: list[FeedbackEvent], chance: random.Random, verdicts: Verdicts
) -> None:
    token = sign_feedback_token(APP, "1", SECRET, subject_id="ann", generation_id=GENERATION)
    values = [MessageToDict(replace(event, app_id=APP).to_proto()) for event in good]
    found = http_requests.requests(values, KEY, token, chance)
    port = ingest.http_port
    await at_once(http_requests.send("127.0.0.1", port, r, verdicts) for r in itertools.islice(found, count))


async def at_once(work: Iterator[Coroutine[Any, Any, None]]) -> None:
    """Runs all of it, IN_FLIGHT at a time."""

    async def worker() -> None:
        for one in work:
            await one

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


def stored(events_folder: Path) -> set[str]:
    """Ids of the events in the log."""
    consumer = SqliteEventLog(events_folder).consumer(Topic.FEEDBACK)
    found, offset = set(), 0
    while records := consumer.read(0, offset):
        for record in records:
            batch = events_pb2.FeedbackBatch.FromString(record.value)
            found.update(accepted.event.event_id for accepted in batch.events)
        offset = records[-1].offset + 1
    consumer.close()
    return found


async def fuzz(count: int, number: int) -> dict[str, object]:
    """One run; prints its table, and returns its figures."""
    verdicts, started = Verdicts(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="attune-fuzz-") as folder:
        folders = [Path(folder, name) for name in ("open", "keyed")]
        for one in folders:
            one.mkdir()
        async with running(folders[0]) as open_one, running(folders[1], asks_for_keys=True) as keyed:
            processes = (open_one, keyed)
            await attack(open_one, keyed, count, number, verdicts)
            alive = [one.process.returncode is None and await serves(one) for one in processes]
        lost = verdicts.acknowledged - stored(folders[0] / "events") - stored(folders[1] / "events")
        errors = [line for one in processes for line in one.errors()]
    print(verdicts.table())
    for line in (*verdicts.wrong, *errors[:20]):
        print(line)
    return {
        "name": "fuzz-ingest",
        "requests": verdicts.requests,
        "acknowledged": len(verdicts.acknowledged),
        "lost": len(lost),
        "wrong_status": verdicts.wrong_answers,
        "logged_errors": len(errors),
        "crashes": alive.count(False) + sum(one.process.returncode != 0 for one in processes),
        "seed": number,
        "wall_s": round(time.monotonic() - started, 1),
    }


async def serves(ingest: Ingest) -> bool:
    """Whether a good event is still taken."""
    event = new_event(APP, Rating(f"{GENERATION}/0", 1.0), subject_id="ann")
    address, access = f"127.0.0.1:{ingest.grpc_port}", Access(bearer=KEY)
    async with AsyncClient(app_id=APP, feedback_address=address, access=access) as client:
        return (await client.submit(event)).event_id == event.event_id


FAULTS = ("lost", "wrong_status", "logged_errors", "crashes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    figures = asyncio.run(fuzz(options.requests, options.seed))
    print(json.dumps(figures))
    sys.exit(any(figures[fault] for fault in FAULTS))


if __name__ == "__main__":
    main()
