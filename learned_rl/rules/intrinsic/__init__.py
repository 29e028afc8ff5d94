"""Intrinsic rewards: what an agent is told to strive for, learned or designed, beside what its task pays."""
