"""The event log behind one interface: log.py is the contract, sqlite.py and memory.py keep it."""
