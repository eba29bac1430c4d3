"""What trains a network and runs it: buffers, the schedule of a step, and the scheduler that follows it."""
