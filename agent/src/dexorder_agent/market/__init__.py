"""Price series, and what a strategy would have earned on them."""
