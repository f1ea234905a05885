"""Rate limits counted across all workers (ports.Counters)."""
