"""What trains a network and runs it on a GPU: buffers, the launches of a step, graphs of them."""
