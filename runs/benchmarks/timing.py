"""How everything here is timed: side by side in one process, in turns, warm, with compilation told apart."""

import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      case: what was measured.
      value: the number itself, in `unit`.
      unit: of `value`.
      ratio: the number that can be compared between machines; None if there is nothing to divide by.
      target: what `ratio` should be, in words; empty for rows that are only recorded.
      details: everything else worth keeping, for the JSON file.
    """

    case: str
    value: float
    unit: str
    ratio: float | None = None
    target: str = ""
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Timed:
    """Seconds of one contender, one entry a round. `cpu` is of the whole process: less wall time, but no neighbours."""

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.wall)

    def speedup_of(self, other: "Timed") -> float:
        """How many times faster `other` is: the median over rounds, so that what slows a whole round cancels."""
        return statistics.median(a / b for a, b in zip(self.wall, other.wall, strict=True))

    def cpu_speedup_of(self, other: "Timed") -> float:
        """The same in processor seconds: what is left when other programs share the machine."""
        return statistics.median(a / b for a, b in zip(self.cpu, other.cpu, strict=True))


def in_turns(contenders: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Timed]:
    """Calls the contenders A B A B ..., `rounds` times each after one warm-up, and waits for what they return."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for call in contenders.values():
        jax.block_until_ready(call())
    for _ in range(rounds):
        for name, call in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(call())
            seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: Timed(*zip(*pairs, strict=True)) for name, pairs in seconds.items()}


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The compiled program, and how many seconds tracing and compiling took."""
    began = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - began


def peak_bytes(program: Any) -> int | None:
    """What a compiled program holds: arguments, results, temporaries; None if the backend keeps no account."""
    known = program.memory_analysis()
    if known is None:
        return None
    held = known.argument_size_in_bytes + known.output_size_in_bytes + known.temp_size_in_bytes
    return int(held - known.alias_size_in_bytes)


def device_name() -> str:
    """What the numbers were measured on."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    info = Path("/proc/cpuinfo")  # JAX calls every processor "cpu"
    models = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return f"{os.cpu_count()} cores of {models[0] if models else platform.machine()}"
