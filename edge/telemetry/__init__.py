"""What was seen: metrics, access log."""
