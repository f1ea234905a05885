"""Sockets: the listener, the downstream and upstream connections, addresses."""
