"""Films: an agent at play after its training, as an animated GIF, where the environment can be drawn."""

from runs.films.film import film

__all__ = ["film"]
