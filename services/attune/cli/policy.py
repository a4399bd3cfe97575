"""`attune policy`: the policy server as a process."""

from attune.cli.service import service_command

policy = service_command(
    "policy", "attune.policy", "PolicySettings", "Writes completions with the stable policy revision."
)
