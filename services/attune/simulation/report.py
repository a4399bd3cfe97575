"""What the demo leaves behind: a table before and after, the curves as PNG and HTML, and the metrics as JSONL.

Figures come from attune.simulation.measure and from what the trainer told its watchers; nothing is computed here but
means over time.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attune.simulation.taste import Judge
from attune.simulation.traffic import Answer

CURVE_POINTS = 40


@dataclass(frozen=True)
class Row:
    """A prompt of the showcase, its answer by the entering policy and by the final one, and their true scores."""

    kind: str
    prompt: str
    before: str
    after: str
    score_before: float
    score_after: float


@dataclass(frozen=True)
class StepRecord:
    """A step of the trainer as its watchers were told: `time_s` since the loop began."""

    time_s: float
    event: str
    revision: str
    reason: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """All that is shown."""

    title: str
    summary: Mapping[str, Any]
    rows: Sequence[Row]
    steps: Sequence[StepRecord]
    served: Sequence[tuple[float, float]]
    """Mean true score of what users were served: (seconds since the loop began, score)."""


def served_scores(judge: Judge, answers: Sequence[Answer], since: float) -> list[tuple[float, float]]:
    """Mean true score of the answers users saw, in CURVE_POINTS spans of equal time."""
    seen = [a for a in answers if a.time >= since]
    if not seen:
        return []
    span = max((max(a.time for a in seen) - since) / CURVE_POINTS, 1e-9)
    spans: dict[int, list[float]] = {}
    for a in seen:
        spans.setdefault(min(int((a.time - since) / span), CURVE_POINTS - 1), []).append(judge(a.prompt, a.text))
    return [((i + 0.5) * span, sum(scores) / len(scores)) for i, scores in sorted(spans.items())]


def write_report(report: Report, folder: Path) -> list[Path]:
    """Writes curves.png, report.html, summary.json and steps.jsonl; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / name for name in ("curves.png", "report.html", "summary.json", "steps.jsonl")}
    draw_curves(report, files["curves.png"])
    files["report.html"].write_text(_html(report, files["curves.png"].read_bytes()))
    files["summary.json"].write_text(json.dumps(dict(report.summary), indent=2) + "\n")
    files["steps.jsonl"].write_text("".join(json.dumps(asdict(step)) + "\n" for step in report.steps))
    return list(files.values())


def draw_curves(report: Report, path: Path) -> None:
    """Four pictures over the time of the loop: true score served, win rate at the gate, KL, reward accuracy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    figure.suptitle(report.title)
    policy = [s for s in report.steps if s.event.startswith("policy")]
    reward = [s for s in report.steps if s.event.startswith("reward")]
    _plot(axes[0, 0], "What users were served", "true score", {"mean": report.served})
    _plot(
        axes[0, 1],
        "Rollouts, by the live reward model",
        "normalised score",
        {"mean score": _series(policy, "score_mean")},
    )
    _plot(
        axes[1, 0],
        "Drift from the policy that entered",
        "nats a response",
        {"rollouts": _series(policy, "kl"), "held-out prompts": _series(policy, "gate_kl")},
    )
    _plot(
        axes[1, 1],
        "Reward models on held-out people",
        "share of pairs ordered right",
        {"reward model": _series(reward, "reward_accuracy"), "gate's": _series(reward, "gate_accuracy")},
    )
    for step in report.steps:
        if step.event == "reward_promoted":
            axes[0, 1].axvline(step.time_s, color="grey", alpha=0.25, linewidth=0.8)
    for axis in axes.flat:
        axis.set_xlabel("seconds of live traffic")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _series(steps: Sequence[StepRecord], name: str) -> list[tuple[float, float]]:
    return [(s.time_s, s.metrics[name]) for s in steps if name in s.metrics]


def _plot(axis: Any, title: str, unit: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_ylabel(unit)
    axis.grid(alpha=0.3)
    for label, points in lines.items():
        if points:
            axis.plot(*zip(*points, strict=True), label=label, marker=".", markersize=4, linewidth=1.4)
    if len(lines) > 1 and any(lines.values()):
        axis.legend(fontsize=8)


def _html(report: Report, picture: bytes) -> str:
    image = base64.b64encode(picture).decode()
    figures = "".join(f"<tr><th>{_text(k)}</th><td>{_text(_shown(v))}</td></tr>" for k, v in report.summary.items())
    rows = "".join(
        f"<tr><td>{_text(r.kind)}</td><td>{_text(r.prompt)}</td>"
        f"<td>{_text(r.before)} <small>{r.score_before:+.1f}</small></td>"
        f"<td>{_text(r.after)} <small>{r.score_after:+.1f}</small></td></tr>"
        for r in report.rows
    )
    steps = "".join(
        f"<tr><td>{s.time_s:.0f} s</td><td>{_text(s.event)}</td><td>{_text(s.revision)}</td>"
        f"<td>{_text(s.reason)}</td></tr>"
        for s in report.steps
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{_text(report.title)}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; margin: 1rem 0; }} th, td {{ border: 1px solid #ccc; padding: .35rem .6rem;
text-align: left; vertical-align: top; }} small {{ color: #777; }} img {{ max-width: 100%; }}
</style></head><body>
<h1>{_text(report.title)}</h1>
<table>{figures}</table>
<h2>Before and after</h2>
<p>The same prompts, which occur in no training text; true scores beside the answers.</p>
<table><tr><th>kind</th><th>prompt</th><th>before</th><th>after</th></tr>{rows}</table>
<h2>Curves</h2><img alt="curves" src="data:image/png;base64,{image}">
<h2>Steps</h2><details><summary>{len(report.steps)} steps of the trainer</summary>
<table><tr><th>time</th><th>what</th><th>revision</th><th>why</th></tr>{steps}</table></details>
</body></html>
"""


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _text(value: str) -> str:
    return html.escape(value)
