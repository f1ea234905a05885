"""Who is there: Clerk's tokens believed (or not), for the JSON API by header and for the console by cookie."""
