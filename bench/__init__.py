"""What a request costs, beside the peers that are installed."""
