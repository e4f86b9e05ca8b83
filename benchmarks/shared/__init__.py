"""What the contestants and the tables of the benchmarks share."""
