"""DiscoRL (Oh et al., Nature 2025): the rule in `rule`, and its parts."""
