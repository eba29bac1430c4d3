"""What goes over a matrix row by row: activations, softmax, losses, reductions."""
