"""The engine of vLLM, for a policy server that runs in an environment with vLLM."""
