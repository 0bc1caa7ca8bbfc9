"""The policy: pure rules about money. No files, sockets, clock or globals live here."""
