"""The data plane: gevent workers that serve tenants' hosts and need only Redis.

Rooms, outermost first; a room imports only rooms below it:
__main__ / server / net | store | telemetry / explain / pipeline / phases / exchange | ports / snapshot / http /
errors | settings
"""
