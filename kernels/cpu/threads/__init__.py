"""The worker threads, and how many of them."""
