"""The jobs, one module per noun; names and arguments stand in contracts.tasks. Celery finds them through worker.app."""
