"""Strictness and speed switches for the whole suite."""

import dataclasses
import os
import pathlib
import sys

import jax

QUICK = {"--xla_backend_optimization_level": "0", "--xla_llvm_disable_expensive_passes": "true"}
if jax.__version_info__ < (0, 11):  # an unknown flag is a fatal error, and later versions have no such choice
    QUICK["--xla_cpu_use_fusion_emitters"] = "false"
    QUICK["--xla_cpu_parallel_codegen_split_count"] = "1"  # all cores are busy with other tests

# Compilation dominates the suite; what one run compiled the next one reads.
_cache = pathlib.Path(os.environ.get("LEARNED_RL_TEST_CACHE", pathlib.Path(__file__).parent.parent / ".cache" / "jax"))
jax.config.update("jax_compilation_cache_dir", str(_cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

if sys.dont_write_bytecode:  # then each of dozens of child processes would compile a thousand modules for itself
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(_cache.parent / "bytecode")


def pytest_configure(config):
    """Most programs run once: less optimised code is there sooner. Not for slow tests, whose programs run for long.

    XLA reads its flags when jax first computes, which is later than this.
    """
    if "slow" not in config.option.markexpr.replace("not slow", ""):
        flags = os.environ.get("XLA_FLAGS", "")
        ours = [f"{flag}={value}" for flag, value in QUICK.items() if flag not in flags]
        os.environ["XLA_FLAGS"] = " ".join([flags, *ours]).strip()


def pytest_make_parametrize_id(config, val, argname):
    """Settings objects by their type: their repr holds addresses of functions, and workers must agree on every name."""
    return type(val).__name__ if dataclasses.is_dataclass(val) and not isinstance(val, type) else None
