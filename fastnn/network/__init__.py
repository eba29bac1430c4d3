"""What a network is made of: what is decided when it is made, and its parameters."""
