"""`attune reward`: the reward server as a process."""

from attune.cli.service import service_command

reward = service_command(
    "reward", "attune.reward", "RewardSettings", "Scores completions with the stable reward revision."
)
