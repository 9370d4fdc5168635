"""The runtimes that people use instead, for `scripts/bench_runtimes.py` alone."""
