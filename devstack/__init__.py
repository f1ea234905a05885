"""What a laptop has in place of the cloud. Nothing in production imports this package."""
