"""What the control plane can do, one module per noun, for three doors: the JSON API, the console and the worker.

Laws:  1. No request, no response: an Actor and values come in, values go out (never rows). 2. Each call is one
       transaction under one row scope. 3. Every write goes through services.revision: locked, versioned, audited,
       put into the outbox, published after the commit.
"""
