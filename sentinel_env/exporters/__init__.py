"""Writers of our tasks and databases in the formats of other benchmarks."""
