"""Real tables to rows of numbers, and back: files, data sets, preparation of columns and targets, the baseline."""
