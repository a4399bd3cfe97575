"""The OpenAI-compatible door of the policy server: any OpenAI SDK gets completions that feedback can be sent for."""
