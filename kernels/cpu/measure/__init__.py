"""What profiling needs: time stamps, operation counts, the machine's ceilings."""
