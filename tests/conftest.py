"""Strictness and speed switches for the whole suite."""

import dataclasses
import os
import pathlib

# Most programs run once: less optimised code is there sooner, a fifth less work in all. Read when jax first computes.
QUICK = {"--xla_backend_optimization_level": "0", "--xla_llvm_disable_expensive_passes": "true"}
_flags = os.environ.get("XLA_FLAGS", "")
_ours = [f"{flag}={value}" for flag, value in QUICK.items() if flag not in _flags]
os.environ["XLA_FLAGS"] = " ".join([_flags, *_ours]).strip()

import jax  # noqa: E402

# Compilation dominates the suite; what one run compiled the next one reads.
_cache = pathlib.Path(os.environ.get("LEARNED_RL_TEST_CACHE", pathlib.Path(__file__).parent.parent / ".cache" / "jax"))
jax.config.update("jax_compilation_cache_dir", str(_cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_make_parametrize_id(config, val, argname):
    """Settings objects by their type: their repr holds addresses of functions, and workers must agree on every name."""
    return type(val).__name__ if dataclasses.is_dataclass(val) and not isinstance(val, type) else None
