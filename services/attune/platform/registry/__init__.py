"""The registry of revisions and aliases on a directory or an object store."""
