"""What a model is made of: what is decided when it is made, its parameters, and what runs it."""
