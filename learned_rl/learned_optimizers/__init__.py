"""Optimizers whose update is a network: meta-parameters that move an agent's parameters."""
