"""A stand-in for Clerk on loopback: its endpoints, cookies, claims and headers, for demo, tests and development."""
