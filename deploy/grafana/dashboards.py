"""The Grafana dashboards, generated as the JSON files beside.

    python deploy/grafana/dashboards.py [--check]

With --check nothing is written, and the exit status is 1 if a file is not what this makes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from panels import (
    Dashboard,
    Panel,
    Row,
    as_json,
    by,
    cores,
    greatest,
    increase,
    memory,
    quantile,
    quantiles,
    rate,
    stat,
    total,
)

HERE = Path(__file__).resolve().parent
USER = "purpose='user'"
WRITTEN = f"{USER},outcome='written'"
ACCEPTED = "outcome='accepted'"
POLICY_KIND = "kind='policy'"
OBJECTIVES = {"generation": 0.005, "score": 0.005, "ingest": 0.001}
"""The share of errors that each objective allows, as the rules have it."""
KL = Panel(
    "KL",
    {
        "gate": greatest("attune_gate_kl_nats"),
        "rollouts": greatest("attune_ppo_kl_nats"),
        "ceiling": greatest("attune_gate_kl_ceiling_nats"),
    },
    about="Nats a response to the reference.",
)

LOOP = Dashboard(
    "attune-loop",
    "Attune: loop",
    "One way round: people ask, say what they prefer, and get answers that have learned from it.",
    [
        Row(
            "Now",
            [
                stat("Freshness, median", quantile(0.5, "attune_feedback_freshness_seconds", "[1h]"), "s",
                     "From an event's acceptance to the first answer that has learned from it, over an hour."),
                stat("Stable policy", greatest("attune_training_stable_revision_number", labels=POLICY_KIND)),
                stat("Promotions in an hour",
                     increase("attune_training_steps_total", "1h", labels=f"{POLICY_KIND},outcome='promoted'")),
                stat("Feedback in an hour", increase("attune_feedback_events_total", "1h", labels=ACCEPTED)),
                stat("Answers in an hour", increase("attune_generation_requests_total", "1h", labels=WRITTEN)),
                stat("Processes up", total("up", labels="installation!=''")),
            ],
        ),
        Row(
            "Objectives",
            [
                Panel("Errors over an hour",
                      {name: greatest(f"attune:{name}_errors:ratio_rate1h") for name in OBJECTIVES}, "percentunit",
                      "Share that failed for reasons that are not the caller's."),
                Panel("Error budget burn",
                      {name: f"{greatest(f'attune:{name}_errors:ratio_rate1h')} / {share}"
                       for name, share in OBJECTIVES.items()},
                      about="1 uses up the budget in exactly a month; 14.4 calls somebody.", threshold=14.4),
                quantiles("Freshness", "attune_feedback_freshness_seconds"),
            ],
        ),
        Row(
            "The way round",
            [
                Panel("Asked, said, joined",
                      {"answers": rate("attune_generation_requests_total", WRITTEN),
                       "feedback": rate("attune_feedback_events_total", ACCEPTED),
                       "examples": rate("attune_examples_total")}, "cps"),
                Panel("Lag of the join", {"{{topic}}": greatest("attune_event_lag_seconds", "topic")}, "s",
                      "Age of the log time that the join has read up to.", 300),
                by("Steps of the trainer", "kind, outcome", "attune_training_steps_total"),
            ],
        ),
        Row(
            "What it leads to",
            [
                Panel("Reward and agreement",
                      {"score": greatest("attune_ppo_score"),
                       "held-out accuracy": greatest("attune_reward_held_out_accuracy"),
                       "gate win rate": greatest("attune_gate_win_rate")},
                      about="A score that rises while accuracy falls is reward hacking."),
                KL,
                Panel("Revisions",
                      {"stable": greatest("attune_training_stable_revision_number", labels=POLICY_KIND),
                       "{{instance}}": greatest("attune_policy_live_revision_number", "instance")},
                      about="Replicas follow what the trainer holds for stable."),
            ],
        ),
    ],
)  # fmt: skip

POLICY = Dashboard(
    "attune-policy",
    "Attune: policy",
    "The servers of models: answers to people and to the trainer, scores, and swaps of revisions.",
    [
        Row(
            "Answers",
            [
                by("By outcome", "outcome", "attune_generation_requests_total", USER),
                quantiles("Time to the first token", "attune_generation_time_to_first_token_seconds", USER),
                quantiles("Time to the last token", "attune_generation_duration_seconds", USER),
            ],
        ),
        Row(
            "Work",
            [
                Panel("Completions",
                      {"running": total("attune_generation_running_completions"),
                       "waiting, {{purpose}}": total("attune_generation_queue_completions", "purpose")}),
                Panel("Tokens",
                      {"written": rate("attune_generation_tokens_total"),
                       "wasted": rate("attune_generation_wasted_tokens_total")}, "cps",
                      "Wasted: of completions whose caller had gone."),
                by("Served but not recorded", "reason", "attune_generations_unrecorded_total"),
            ],
        ),
        Row(
            "Scores",
            [
                by("Calls by status", "method, status", "attune_rpc_duration_seconds_count", "component='reward'"),
                quantiles("Time of the model for a batch", "attune_score_duration_seconds"),
                Panel("Pairs",
                      {"scored a second": rate("attune_score_pairs_total"),
                       "waiting": total("attune_score_queue_pairs"),
                       "of a batch, median": quantile(0.5, "attune_score_batch_pairs")}),
            ],
        ),
        Row(
            "Swaps",
            [
                Panel("Swaps in five minutes",
                      {f"{name}, {{{{outcome}}}}": increase(f"attune_{name}_swaps_total", "5m", "outcome")
                       for name in ("policy", "reward")}),
                Panel("Loading, p95",
                      {name: quantile(0.95, f"attune_{name}_swap_duration_seconds", "[5m]")
                       for name in ("policy", "reward")}, "s"),
                Panel("Refused and unreadable in five minutes",
                      {"policy, {{reason}}": increase("attune_policy_load_refused_total", "5m", "reason"),
                       "reward, {{reason}}": increase("attune_reward_load_refused_total", "5m", "reason"),
                       "registry, {{error}}": increase("attune_policy_registry_errors_total", "5m", "error")}),
            ],
        ),
        Row("Processes", [cores("policy"), memory("policy"), cores("reward"), memory("reward")]),
    ],
)  # fmt: skip

FEEDBACK = Dashboard(
    "attune-feedback",
    "Attune: feedback",
    "From what a person says to a training example.",
    [
        Row(
            "Ingest",
            [
                by("By outcome", "outcome", "attune_feedback_events_total"),
                by("By kind", "kind", "attune_feedback_events_total", ACCEPTED),
                quantiles("Acknowledgement", "attune_feedback_ack_duration_seconds",
                          about="From arrival to the acknowledgement, the durable write included."),
            ],
        ),
        Row(
            "Doors",
            [
                by("gRPC by status", "method, status", "attune_rpc_duration_seconds_count", "component='ingest'"),
                by("HTTP by status", "route, status", "attune_http_duration_seconds_count", "component='ingest'"),
                Panel("Said twice, or not at all",
                      {"repeated": rate("attune_feedback_repeated_total"),
                       "conflict": rate("attune_feedback_conflicts_total"),
                       "no HTTP": rate("attune_http_malformed_total", "component='ingest'")}, "cps"),
            ],
        ),
        Row(
            "Join",
            [
                by("By result", "result", "attune_join_events_total"),
                Panel("Join ratio over an hour", {"joined": greatest("attune:join:ratio_rate1h")}, "percentunit",
                      "Of what was decided: joined, against conflict and expired.", 0.95),
                Panel("Waiting for a generation", {"events": greatest("attune_join_pending_events")}),
            ],
        ),
        Row(
            "Behind",
            [
                Panel("Lag in records", {"{{topic}}": total("attune_event_lag_records", "topic")}),
                Panel("Lag in time", {"{{topic}}": greatest("attune_event_lag_seconds", "topic")}, "s", threshold=300),
                quantiles("Between an event and its generations", "attune_join_delay_seconds"),
            ],
        ),
        Row(
            "Set aside",
            [
                Panel("Dead letters in five minutes",
                      {"{{reason}}": increase("attune_dead_letters_total", "5m", "reason")}),
                Panel("Event log unavailable", {"tries": rate("attune_event_log_unavailable_total")}, "cps"),
                Panel("Examples", {"examples": rate("attune_examples_total")}, "cps"),
            ],
        ),
        Row("Processes", [cores("ingest"), memory("ingest"), cores("join"), memory("join")]),
    ],
)  # fmt: skip

TRAINER = Dashboard(
    "attune-trainer",
    "Attune: trainer",
    "Reward updates and PPO, step by step. Figures stand until the next step.",
    [
        Row(
            "Now",
            [
                stat("Epoch", greatest("attune_training_epoch"), about="The highest; two trainers are an alert."),
                stat("Stopped", greatest("attune_training_is_stopped"), about="1 while stopped to protect the policy."),
                stat("Idle", greatest("attune_training_is_idle"), about="1 while there is nothing to learn."),
                stat("Age of the checkpoint",
                     f"time() - {greatest('attune_training_checkpoint_timestamp_seconds')}", "s"),
                stat("Prompts", greatest("attune_training_prompts")),
                stat("Examples", total("attune_training_examples")),
            ],
        ),
        Row(
            "Steps",
            [
                by("By outcome", "kind, outcome", "attune_training_steps_total"),
                Panel("Duration, p95",
                      {"{{kind}}": quantile(0.95, "attune_training_step_duration_seconds", "[10m]", by="kind")}, "s"),
                Panel("Phase", {"{{phase}}": greatest("attune_training_phase_info", "phase")}),
            ],
        ),
        Row(
            "Is it what people want",
            [
                Panel("Score of rollouts", {"mean": greatest("attune_ppo_score")},
                      about="Normalised: 1 is a standard deviation."),
                Panel("Agreement with people",
                      {"reward model": greatest("attune_reward_held_out_accuracy"),
                       "gate's model": greatest("attune_gate_reward_accuracy"),
                       "win rate": greatest("attune_gate_win_rate")},
                      "percentunit", "On held-out feedback and prompts.", 0.5),
                KL,
            ],
        ),
        Row(
            "PPO",
            [
                Panel("Entropy", {"a token": greatest("attune_ppo_entropy_nats")}, about="Nats."),
                Panel("Ratios",
                      {"clipped": greatest("attune_ppo_clip_ratio"),
                       "greatest": greatest("attune_ppo_policy_ratio_max"),
                       "engine gap": greatest("attune_ppo_engine_gap_ratio")}),
                Panel("Critic",
                      {"explained variance": greatest("attune_ppo_explained_variance"),
                       "value loss": greatest("attune_ppo_value_loss")}),
                Panel("Policy",
                      {"loss": greatest("attune_ppo_policy_loss"),
                       "gradient norm": greatest("attune_ppo_actor_gradient_norm"),
                       "approximate KL": greatest("attune_ppo_approx_kl_nats"),
                       "KL coefficient": greatest("attune_ppo_kl_coefficient")}),
            ],
        ),
        Row(
            "Answers and the reward model",
            [
                Panel("Length", {"tokens": greatest("attune_ppo_response_tokens")}),
                Panel("Ended by themselves", {"share": greatest("attune_ppo_ended_ratio")}, "percentunit"),
                Panel("Reward model",
                      {"log-likelihood, negative": greatest("attune_reward_training_nll"),
                       "calibration error": greatest("attune_reward_calibration_error"),
                       "drift of the anchors": greatest("attune_reward_anchor_drift")}),
                Panel("Trouble in five minutes",
                      {"calls to {{service}}": increase("attune_training_calls_failed_total", "5m", "service"),
                       "not finite": increase("attune_training_non_finite_total", "5m"),
                       "texts cut": increase("attune_training_texts_cut_total", "5m"),
                       "happenings lost": increase("attune_training_happenings_lost_total", "5m")}),
            ],
        ),
        Row("Process", [cores("trainer"), memory("trainer")]),
    ],
)  # fmt: skip

DASHBOARDS = (LOOP, POLICY, FEEDBACK, TRAINER)


def main() -> int:
    parser = argparse.ArgumentParser(description="Writes the dashboards of Grafana.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is not what this makes")
    is_check = parser.parse_args().check
    stale = []
    for dashboard in DASHBOARDS:
        path, text = HERE / f"{dashboard.uid}.json", as_json(dashboard)
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if not is_check:
                path.write_text(text)
    print(f"{'stale' if is_check else 'written'}: {', '.join(stale) or 'nothing'}")
    return 1 if is_check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
