"""HTTP as the doors of services share it: one server, its settings, reading JSON, and errors in a form of their own."""
