"""Recipes, one a file: `experiment()` builds one `Experiment`; nothing happens at import."""
