"""Rules for other code: as a loss, as an optax transformation, as StableHLO, as one Python file.

`learned-rl export RULE --to FORMAT` writes a folder; in a program, `as_loss(rule, theta)` and
`as_optax(rule, theta)`. A rule is taken apart
(`parts`) into an objective, an optimizer, a schedule; every format is a way to write the parts down.
"""

from learned_rl.export.parts import NotExportable, as_loss, as_optax, parts

__all__ = ["NotExportable", "as_loss", "as_optax", "parts"]
