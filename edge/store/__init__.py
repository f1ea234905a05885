"""Redis: what the edge reads, counts and keeps there, and what it does when Redis is away."""
