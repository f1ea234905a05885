"""The control plane: a console and a JSON API over the same services. PostgreSQL is the truth."""
