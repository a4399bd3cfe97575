"""`attune trainer`: the training loop as a process."""

from attune.cli.service import service_command

trainer = service_command(
    "trainer", "attune.trainer", "TrainerSettings", "Keeps the reward model and the policy learning from feedback."
)
