"""Speed and memory of this project, beside peers where there are any: `python -m runs.benchmarks --help`.

One file a benchmark, each with `measure(rounds)`, which yields `Row`s. What is compared is run in the same process, in
turns, warm, with compile time told apart, and the ratio is what counts: seconds of one machine say little on another.
"""

NAMES = ("ppo", "population", "overhead", "compile", "memory", "estimators", "rules", "open", "disco", "transfer")
