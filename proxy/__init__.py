"""The sidecar: everything with an effect (sockets, files, the clock)."""
