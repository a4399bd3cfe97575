"""The policy server: writes completions with the live revision, batched across callers, and records them."""
