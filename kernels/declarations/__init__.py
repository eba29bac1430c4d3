"""What activations, losses, optimisers and layers are declared with: names, ranges, rules and their hashes."""
