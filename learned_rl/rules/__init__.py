"""Rules, one a file: how an agent changes after a rollout."""
