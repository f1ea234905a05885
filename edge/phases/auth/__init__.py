"""Who calls, and whether the route lets them: `Authenticator` and `authorise`."""
