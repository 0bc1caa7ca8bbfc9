"""The operator's pages, rendered on the server; they read and change the ledger through its port alone."""

from proxy.dashboard.endpoints import routes

__all__ = ["routes"]
