"""For every alert: a course of metrics under which it fires, and one, as near as possible, under which it does not.

A course is in promtool's notation, a value a minute: `0+5x60` climbs by 5, `3x60` stays at 3, `_x5` is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Course = Mapping[str, str]
USER = 'attune_generation_requests_total{purpose="user",outcome="%s"}'
SCORING = 'component="reward",method="/attune.api.reward.v1.RewardService/Score",'
SCORE = f'attune_rpc_duration_seconds_count{{{SCORING}status="%s"}}'
EVENTS = 'attune_feedback_events_total{kind="rating",outcome="%s"}'
JOINED = 'attune_join_events_total{result="%s"}'
STEPS = 'attune_training_steps_total{kind="%s",outcome="%s"}'
STABLE = 'attune_training_stable_revision_number{kind="%s"}'
PPO = {STEPS % ("policy", "promoted"): "0+1x300"}
"""A trainer that takes steps."""
UNMEASURED = "NaN " * 120


@dataclass(frozen=True)
class Case:
    alert: str
    at: str
    fires: Course
    quiet: Course


def _latency(bucket: str, le: float, labels: str = "") -> Course:
    """Everything takes as long as the bucket that ends at `le`."""
    return {
        f'{bucket}_bucket{{{labels}le="{le / 2:g}"}}': "0x60",
        f'{bucket}_bucket{{{labels}le="{le:g}"}}': "0+10x60",
        f'{bucket}_bucket{{{labels}le="+Inf"}}': "0+10x60",
    }


def _swapped(service: str) -> tuple[str, str]:
    """The live revision of two replicas."""
    return tuple(f'attune_{service}_live_revision_number{{instance="{i}"}}' for i in ("a", "b"))  # type: ignore[return-value]


FIRST_TOKEN = "attune_generation_time_to_first_token_seconds"
RPC = "attune_rpc_duration_seconds"
POLICY_A, POLICY_B = _swapped("policy")
REWARD_A, REWARD_B = _swapped("reward")
LOST = {STEPS % ("policy", "rejected"): "0+1x10 10x200", STEPS % ("policy", "promoted"): "0x210"}
HACKED = {
    "attune_reward_held_out_accuracy": "0.80x90 0.80-0.001x120 0.68x60",
    "attune_ppo_score": "0.2x90 0.2+0.01x180",
}
LAGGING = 'attune_event_lag_records{topic="attune.feedback"}'
FRESHNESS = "attune_feedback_freshness_seconds"

CASES = (
    Case(
        "AttuneGenerationErrorBudgetBurn",
        "90m",
        {USER % "written": "0+90x90", USER % "no_revision": "0+10x90"},
        {USER % "written": "0+90x90", USER % "invalid_input": "0+10x90", USER % "cancelled": "0+10x90"},
    ),
    Case(
        "AttuneScoreErrorBudgetBurn",
        "90m",
        {SCORE % "OK": "0+90x90", SCORE % "RESOURCE_EXHAUSTED": "0+10x90"},
        {SCORE % "OK": "0+90x90", SCORE % "INVALID_ARGUMENT": "0+10x90"},
    ),
    Case(
        "AttuneIngestErrorBudgetBurn",
        "90m",
        {EVENTS % "log_unavailable": "0+10x90"},
        {EVENTS % "accepted": "0+90x90", EVENTS % "invalid": "0+10x90"},
    ),
    Case(
        "AttuneServiceDown",
        "10m",
        {'up{component="join",instance="a"}': "1 0x20", 'up{component="join",instance="b"}': "0x20"},
        {'up{component="join",instance="a"}': "1x20", 'up{component="join",instance="b"}': "0x20"},
    ),
    Case("AttuneInstanceDown", "20m", {'up{component="policy"}': "0x30"}, {'up{component="policy"}': "0x10 1x20"}),
    Case("AttuneGenerationSlow", "20m", _latency(FIRST_TOKEN, 10, 'purpose="user",'),
         _latency(FIRST_TOKEN, 10, 'purpose="rollout",')),
    Case("AttuneScoreSlow", "20m", _latency(RPC, 30, SCORING), _latency(RPC, 5, SCORING)),
    Case("AttuneIngestSlow", "20m", _latency("attune_feedback_ack_duration_seconds", 2.5),
         _latency("attune_feedback_ack_duration_seconds", 0.1)),
    Case(
        "AttuneGenerationsUnrecorded",
        "30m",
        {'attune_generations_unrecorded_total{reason="log_slow"}': "0+2x60", USER % "written": "0+100x60"},
        {'attune_generations_unrecorded_total{reason="log_slow"}': "0x60", USER % "written": "0+100x60"},
    ),
    Case("AttuneNoLiveRevision", "20m", {POLICY_A: "0x30", POLICY_B: "0x30"}, {POLICY_A: "0x30", POLICY_B: "1x30"}),
    Case(
        "AttuneSwapFailing",
        "10m",
        {'attune_policy_load_refused_total{reason="CHECKPOINT_REFUSED"}': "0x5 1x20"},
        {'attune_policy_load_refused_total{reason="CHECKPOINT_REFUSED"}': "1x20"},
    ),
    Case(
        "AttuneSwapFailing",
        "10m",
        {'attune_reward_load_refused_total{reason="REGISTRY_CORRUPT"}': "0x5 1x20"},
        {'attune_reward_load_refused_total{reason="REGISTRY_CORRUPT"}': "0x20"},
    ),
    Case("AttuneRevisionSkew", "30m", {POLICY_A: "4x5 5x30", POLICY_B: "4x40"},
         {POLICY_A: "4x5 5+1x40", POLICY_B: "4x5 5+1x40"}),
    Case("AttuneRevisionSkew", "30m", {REWARD_A: "4x5 3x40", REWARD_B: "4x40"},
         {REWARD_A: "0x20 4x20", REWARD_B: "4x40"}),
    Case("AttuneRevisionBehind", "30m", {POLICY_A: "4x40", STABLE % "policy": "4x5 5x40"},
         {POLICY_A: "4x6 5+1x40", STABLE % "policy": "4x5 5+1x40"}),
    Case("AttuneRevisionBehind", "30m", {REWARD_A: "4x40", STABLE % "reward": "4x5 3x40"},
         {REWARD_A: "4x6 3x40", STABLE % "reward": "4x5 3x40"}),
    Case(
        "AttuneRegistryUnreadable",
        "30m",
        {'attune_policy_registry_errors_total{error="OSError"}': "0+2x60"},
        {'attune_policy_registry_errors_total{error="OSError"}': "0+2x10 20x50"},
    ),
    Case("AttuneAliasFileTorn", "30m", {"attune_reward_torn_alias_files": "1x60"},
         {"attune_reward_torn_alias_files": "0x60"}),
    Case(
        "AttuneJoinStopped",
        "30m",
        {EVENTS % "accepted": "0+60x60", JOINED % "joined": "0+60x10 _x50"},
        {EVENTS % "accepted": "0+60x60", JOINED % "pending": "0+60x60"},
    ),
    Case("AttuneFeedbackLag", "30m", {'attune_event_lag_seconds{topic="attune.feedback"}': "0+60x60"},
         {'attune_event_lag_seconds{topic="attune.feedback"}': "200x60"}),
    Case("AttuneFeedbackLagGrowing", "60m", {LAGGING: "0+100x60"}, {LAGGING: "9000-100x60"}),
    Case("AttuneEventLogUnavailable", "20m", {"attune_event_log_unavailable_total": "0+60x30"},
         {"attune_event_log_unavailable_total": "0+60x5 300x30"}),
    Case(
        "AttuneJoinRatioLow",
        "90m",
        {JOINED % "joined": "0+90x100", JOINED % "expired": "0+10x100"},
        {JOINED % "joined": "0+90x100", JOINED % "superseded": "0+10x100", JOINED % "expired": "0x100"},
    ),
    Case(
        "AttuneFeedbackPending",
        "90m",
        {"attune_join_pending_events": "0+10x100", JOINED % "joined": "0+1x100"},
        {"attune_join_pending_events": "0+10x100", JOINED % "joined": "0+100x100"},
    ),
    Case(
        "AttuneDeadLetters",
        "60m",
        {'attune_dead_letters_total{reason="ENTRY_INVALID"}': "0+2x90", JOINED % "joined": "0+50x90"},
        {'attune_dead_letters_total{reason="ENTRY_INVALID"}': "0x30 1x90", JOINED % "joined": "0+1x90"},
    ),
    Case("AttuneFeedbackSilent", "130m", {USER % "written": "0+10x200"},
         {USER % "written": "0+10x200", EVENTS % "repeated": "0+1x200"}),
    Case("AttuneFeedbackStale", "60m", _latency(FRESHNESS, 21600), _latency(FRESHNESS, 120)),
    Case("AttuneTrainingStopped", "5m", {"attune_training_is_stopped": "1x10"}, {"attune_training_is_stopped": "0x10"}),
    Case(
        "AttuneTrainingStalled",
        "8h",
        {"attune_examples_total": "0+1x600", STEPS % ("reward", "promoted"): "7x600"},
        {"attune_examples_total": "0+1x600", STEPS % ("reward", "promoted"): "7x600",
         'attune_training_phase_info{phase="paused"}': "1x600"},
    ),
    Case(
        "AttunePolicyStale",
        "1600m",
        {"attune_examples_total": "0+1x1700", STEPS % ("policy", "promoted"): "7x1700"},
        {"attune_examples_total": "0+1x1700", STEPS % ("policy", "promoted"): "7x1500 8x200"},
    ),
    Case("AttunePolicyRejected", "60m", LOST, LOST | {STEPS % ("policy", "promoted"): "0x20 1x190"}),
    Case(
        "AttuneTwoLeaders",
        "10m",
        {'attune_training_epoch{instance="a"}': "3x20", 'attune_training_epoch{instance="b"}': "4x20"},
        {'attune_training_epoch{instance="a"}': "0x20", 'attune_training_epoch{instance="b"}': "4x20"},
    ),
    Case(
        "AttuneCheckpointOld",
        "120m",
        {"attune_training_checkpoint_timestamp_seconds": "60x200", "attune_training_is_idle": "0x200",
         "attune_training_is_stopped": "0x200"},
        {"attune_training_checkpoint_timestamp_seconds": "60x200", "attune_training_is_idle": "0x90 1x5 0x100",
         "attune_training_is_stopped": "0x200"},
    ),
    Case("AttuneTrainingCallsFailing", "30m", {'attune_training_calls_failed_total{service="reward"}': "0+5x60"},
         {'attune_training_calls_failed_total{service="reward"}': "0+5x5 25x60"}),
    Case(
        "AttuneKlOverCeiling",
        "5m",
        {"attune_gate_kl_nats": "9x10", "attune_gate_kl_ceiling_nats": "8x10"},
        {"attune_gate_kl_nats": "7x10", "attune_gate_kl_ceiling_nats": "8x10", "attune_ppo_kl_nats": UNMEASURED},
    ),
    Case("AttuneRewardHacking", "4h", HACKED, HACKED | {"attune_ppo_score": "0.2x300"}),
    Case("AttuneRewardAccuracyLow", "90m", {"attune_reward_held_out_accuracy": "0.52x120"},
         {"attune_reward_held_out_accuracy": UNMEASURED}),
    Case("AttuneNonFinite", "20m", {"attune_training_non_finite_total": "0x10 1x20"},
         {"attune_training_non_finite_total": "1x30"}),
    Case("AttuneEntropyCollapse", "3h", PPO | {"attune_ppo_entropy_nats": "0.4x60 0.05x200"},
         PPO | {"attune_ppo_entropy_nats": "0.4x60 0.2x200"}),
    Case("AttuneClipFractionHigh", "90m", PPO | {"attune_ppo_clip_ratio": "0.7x200"},
         {"attune_ppo_clip_ratio": "0.7x200"}),
    Case(
        "AttuneExplainedVarianceNegative",
        "8h",
        {STEPS % ("policy", "promoted"): "0+1x600", "attune_ppo_explained_variance": "-0.3x600"},
        {STEPS % ("policy", "promoted"): "0+1x600", "attune_ppo_explained_variance": UNMEASURED * 2 + "-0.3x360"},
    ),
    Case("AttuneEngineGap", "30m", {"attune_ppo_engine_gap_ratio": "1.5x60"},
         {"attune_ppo_engine_gap_ratio": "1.003x60"}),
)  # fmt: skip
