"""The HTTP door of ingest: the same events as JSON, from apps without gRPC and from browsers with a token."""
