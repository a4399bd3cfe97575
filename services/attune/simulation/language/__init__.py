"""The sentences of the example language, one file a kind of conversation."""
