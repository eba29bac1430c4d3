"""The process that the kernels run in: forks, threads with a stack of their own, what is told while compiling."""
