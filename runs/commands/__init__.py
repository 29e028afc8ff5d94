"""The commands of `learned-rl`: one file each, with HELP, `arguments(parser)` and `run(known)`.

All are imported to parse a command line, so that whatever is heavy (JAX, MLflow) is imported inside `run`, after
the mistakes that names alone show. What a command returns is its `--json` summary.
"""

COMMANDS = (
    "discover",
    "transfer",
    "compare",
    "sweep",
    "tune",
    "select",
    "similarity",
    "explain",
    "report",
    "reproduce",
    "bias",
    "bring_in",
    "hand_out",
    "listing",
    "verify",
)
