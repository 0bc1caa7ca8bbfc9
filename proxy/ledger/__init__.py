"""The ledger: one port, and the engines behind it."""
