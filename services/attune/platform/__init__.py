"""What every service stands on: configuration, telemetry, RPC, the event log, the registry. No torch, no service."""
