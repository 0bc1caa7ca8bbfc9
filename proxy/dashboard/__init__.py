"""The operator's pages, rendered on the server; they read and change the ledger through its port alone."""
