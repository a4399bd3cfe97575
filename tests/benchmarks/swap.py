"""Swaps under live streams: that none is aborted, none mislabelled, and how long a swap is felt.

    python tests/benchmarks/swap.py --seconds 180

A real policy process writes streams over gRPC, each that ends being replaced, while another revision goes live every
few seconds: it is preloaded by a control call, as a trainer does, and then the registry's alias is moved.

`aborted` counts streams that ended otherwise than whole, at the length they asked for. `mislabelled` counts those whose
log-probabilities, computed anew with the weights that their spans name, differ by more than the tolerance of labels.py;
that it can fail is shown each time: `found_of_wrong` is how many of `wrong` completions it finds when they are compared
with the weights of another revision. `pause` is attune_generation_frozen_seconds of the process, of each swap: the
longest time in which no running completion gained a token, from the begin of the preload until a second after the
alias was followed. `stall` is the longest pause between two messages of a stream, as its client saw it, over all
streams. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from attune.api.policy.v1 import policy_pb2
from attune.client import NO_RETRY
from attune.client.control import PolicyControlClient
from attune.domain.generations import Generation, RevisionSpan
from attune.modeling.loading import LoadedPolicy
from labels import TOLERANCE, Checked, check
from policies import MODEL, Policies
from policy_server import PolicyServer, policy_server
from processes import fail_if_dead, percentile_ms, received, wait_for
from stream_load import Streamed, run

PAUSE = "attune_generation_frozen_seconds"
SETTINGS = ["threads=1"]
LIVE_S = 30.0
COMPARED_WITH_WRONG = 64


@dataclass
class Swaps:
    """Of each swap: how long completions stood still, and from the control call until the revision was live."""

    pauses_s: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)


def swapping(server: PolicyServer, policies: Policies, seconds: float, every_s: float, fail: Any) -> Swaps:
    """One swap every `every_s`, in turn through all revisions."""
    swaps = Swaps()
    numbers = cycle([*policies.numbers[1:], 1])
    before = server.figures()
    started = time.monotonic()
    with PolicyControlClient(server.control_address, NO_RETRY) as control:
        while (due := started + every_s * len(swaps.took_s)) < started + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            fail()
            swaps.took_s.append(_swap(control, policies, next(numbers)))
            time.sleep(max(0.0, due + every_s - time.monotonic()))
            after = server.figures()
            if after[f"{PAUSE}_count"] == before[f"{PAUSE}_count"]:
                raise SystemExit("a swap has ended and the server does not say how long it stood still")
            swaps.pauses_s.append(after[f"{PAUSE}_sum"] - before[f"{PAUSE}_sum"])
            before = after
    return swaps


def _swap(control: PolicyControlClient, policies: Policies, number: int) -> float:
    name, started = str(MODEL.revision(number)), time.monotonic()
    control.load_revision(name)
    policies.promote(number)
    wait_for(lambda: control.status().live_revision == name, LIVE_S, f"{name} is not live")
    return time.monotonic() - started


def measured(options: argparse.Namespace, policies: Policies, folder: Path) -> tuple[Swaps, Streamed, float]:
    """The swaps, the streams, and seconds from the first swap to the last."""
    spawn = multiprocessing.get_context("spawn")
    ended, stop, reports = spawn.Value("Q", 0), spawn.Value("b", 0), spawn.Queue()
    with policy_server(folder, [*SETTINGS, *options.set]) as server:
        child = spawn.Process(target=run, args=(server.address, options.streams, ended, stop, reports), daemon=True)
        child.start()
        wait_for(lambda: ended.value > options.streams, LIVE_S, "the streams did not begin", [child])
        started = time.monotonic()
        swaps = swapping(server, policies, options.seconds, options.every, lambda: fail_if_dead([child]))
        took_s = time.monotonic() - started
        stop.value = 1
        streamed = received(reports, [child])
        child.join()
    return swaps, streamed, took_s


def generations_of(streamed: Streamed) -> tuple[list[Generation], list[str]]:
    """The whole ones, and why the others are not."""
    whole, aborted = [], list(streamed.aborted)
    for final in streamed.finals:
        generation = Generation.from_proto(policy_pb2.GenerateStreamResponse.FromString(final).final.generation)
        asked = generation.sampling.max_tokens
        written = [len(completion.token_ids) for completion in generation.completions]
        if written == [asked]:
            whole.append(generation)
        else:
            aborted.append(f"{written} of {asked} tokens")
    return whole, aborted


def with_wrong_labels(generations: Sequence[Generation], names: Sequence[str]) -> list[Generation]:
    """The same, each said to be of the revision after its own."""
    after = dict(zip(names, [*names[1:], names[0]], strict=True))

    def relabelled(span: RevisionSpan) -> RevisionSpan:
        return replace(span, revision=after[span.revision])

    return [
        replace(g, completions=tuple(replace(c, spans=tuple(map(relabelled, c.spans))) for c in g.completions))
        for g in generations
    ]


def result(swaps: Swaps, streamed: Streamed, policies: dict[str, LoadedPolicy]) -> tuple[dict[str, object], Checked]:
    whole, aborted = generations_of(streamed)
    for why in sorted(set(aborted))[:5]:
        print(f"aborted: {why}", file=sys.stderr)
    checked = check(whole, policies)
    wrong = check(with_wrong_labels(whole[:: max(1, len(whole) // COMPARED_WITH_WRONG)], list(policies)), policies)
    spanning = sum(len(c.spans) > 1 for g in whole for c in g.completions)
    return {
        "name": "swap",
        "aborted": len(aborted),
        "mislabelled": len(checked.mislabelled),
        "pause_p99_ms": percentile_ms(swaps.pauses_s, 0.99),
        "stall_p99_ms": percentile_ms(streamed.longest_gaps_s, 0.99),
        "swaps": len(swaps.took_s),
        "streams": len(whole),
        "tokens": sum(len(c.token_ids) for g in whole for c in g.completions),
        "spanning": spanning,
        "tolerance_nats": TOLERANCE,
        "wrong": wrong.completions,
        "found_of_wrong": len(wrong.mislabelled),
    }, checked


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long revisions are swapped")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="from one swap to the next")
    parser.add_argument("--streams", type=int, default=64, help="live at once")
    parser.add_argument("--revisions", type=int, default=5, help="policies that take turns; the server keeps three")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the policy")
    return parser.parse_args(arguments)


def main() -> None:
    options = options_of()
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as name:
        folder = Path(name)
        policies = Policies(folder, options.revisions)
        swaps, streamed, took_s = measured(options, policies, folder)
        print("streams are over; their log-probabilities are computed anew", file=sys.stderr)
        figures, checked = result(swaps, streamed, policies.load())
    rows = [
        ("pause of a swap, ms", swaps.pauses_s),
        ("longest gap of a stream, ms", streamed.longest_gaps_s),
        ("swap, from control call to live, ms", swaps.took_s),
    ]
    print(f"{'':36}{'p50':>9}{'p99':>9}{'longest':>9}")
    for label, seconds in rows:
        print(f"{label:36}" + "".join(f"{percentile_ms(seconds, share):9}" for share in (0.5, 0.99, 1.0)))
    print(f"{figures['tokens'] / took_s:,.0f} tokens a second; largest gap {checked.largest_gap:.1g} nats")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
