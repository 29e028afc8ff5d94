"""OPEN's update beside the published implementation's, on the same weights, gradients and activations.

An actor and a critic of 64 x 64 on flat observations of Breakout, as OPEN was trained in; one update of all their
numbers, clipping and noise included. The ratio is the published implementation's time over ours.

The published code is no package. Where there is a checkout, name its folder `rl_optimizer` in the environment variable
`LEARNED_RL_OPEN_PEER`; what it takes from its submodule learned_optimization is taken from the package of that name.
"""

import functools
import importlib.util
import itertools
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from learned_rl.learned_optimizers.library import importable
from learned_rl.learned_optimizers.open import Open
from learned_rl.learned_optimizers.protocol import Senses, Site, normal_like
from runs.benchmarks.timing import Row, compiled, in_turns, peak_bytes

PEER = "LEARNED_RL_OPEN_PEER"
WIDTHS = {"actor": (400, 64, 64, 3), "critic": (400, 64, 64, 1)}
MAX_NORM = 0.5


def measure(rounds: int) -> Iterator[Row]:
    """One row for each published size of the network."""
    for optimizer in (Open(8, 16), Open(16, 32)):
        yield _row(optimizer, rounds)


def _row(optimizer: Open, rounds: int) -> Row:
    params = {name: _layers(widths) for name, widths in WIDTHS.items()}
    gradient = normal_like(params, jax.random.key(1))
    contenders: dict[str, Callable[[], Any]] = {}
    contenders["ours"], details = _ours(optimizer, params, gradient)
    try:
        contenders["peer"], details["peer"] = _peer(optimizer, params, gradient)
    except ImportError as missing:
        details["note"] = f"open: no row for the published implementation. {missing}"
    timed = in_turns(contenders, rounds)
    ratio = None
    if "peer" in timed:
        ratio = timed["peer"].speedup_of(timed["ours"])
        details["cpu_ratio"] = timed["peer"].cpu_speedup_of(timed["ours"])
    count = sum(x.size for x in jax.tree.leaves(params))
    case = f"{count} numbers, GRU {optimizer.gru}"
    return Row(case, 1e3 * timed["ours"].median, "ms/update", ratio, ">= 1.0 (aim 2.0)", details)


def _layers(widths: tuple[int, ...]) -> dict[str, Any]:
    shapes = itertools.pairwise(widths)
    return {f"Dense_{i}": {"bias": jnp.zeros(o), "kernel": jnp.ones((n, o)) / n} for i, (n, o) in enumerate(shapes)}


def _activations(params: Any) -> Any:
    return jax.tree.map(lambda p: jnp.linspace(0.1, 1.0, p.shape[-1]), params)


def _ours(optimizer: Open, params: Any, gradient: Any) -> tuple[Callable[[], Any], dict[str, Any]]:
    sites = tuple(
        Site(network, layer / 2, network == "actor") for network in WIDTHS for layer in range(3) for _ in range(2)
    )

    def update(theta, gradient, state, params, activations, key):
        half = jnp.float32(0.5)
        senses = Senses(activations, half, half, normal_like(params, key), sites)
        return optimizer.update(theta, gradient, state, params, senses, 0.0)

    theta, key = optimizer.init(jax.random.key(0)), jax.random.key(2)
    arguments = theta, gradient, optimizer.start(params), params, _activations(params), key
    program, seconds = compiled(update, *arguments)
    return lambda: program(*arguments), {"compile_seconds": seconds, "peak_bytes": peak_bytes(program)}


def _peer(optimizer: Open, params: Any, gradient: Any) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The same of the published implementation.

    Raises:
      ImportError: it is not there.
    """
    import optax

    learned = _load(Path(os.environ.get(PEER, ""))).GRU_Opt(hidden_size=optimizer.width, gru_features=optimizer.gru)
    theta, clip = learned.init(jax.random.PRNGKey(0)), optax.clip_by_global_norm(MAX_NORM)
    depths = {name: {f"Dense_{i}": {"bias": i / 2, "kernel": i / 2} for i in range(3)} for name in WIDTHS}
    noisy = {name: jax.tree.map(lambda p, name=name: int(name == "actor"), params[name]) for name in WIDTHS}

    def update(theta, actor, critic, gradient, activations, key):
        clipped = {name: clip.update(gradient[name], optax.EmptyState())[0] for name in WIDTHS}
        said = {"config": {"VISUALISE": False}, "layer_props": depths, "mask": noisy}
        said |= {"training_prop": jnp.float32(0.5), "batch_prop": jnp.float32(0.5)}
        return learned.opt_fn(theta).update(actor, critic, clipped, activations, key=key, **said)[:2]

    begin = learned.opt_fn(theta).init
    states = [begin(params[name], key=jax.random.PRNGKey(1)) for name in WIDTHS]
    arguments = theta, *states, gradient, _activations(params), jax.random.PRNGKey(2)
    program, seconds = compiled(update, *arguments)
    return lambda: program(*arguments), {"compile_seconds": seconds, "peak_bytes": peak_bytes(program)}


@functools.cache  # it registers its classes, and may do so once
def _load(folder: Path) -> Any:
    """Its network.py, which imports base.py beside it by that bare name."""
    if not os.environ.get(PEER) or not (folder / "network.py").exists():
        raise ImportError(f"Name its folder rl_optimizer in the environment variable {PEER}.")
    with importable():
        from learned_optimization import tree_utils  # type: ignore[import-not-found]
        from learned_optimization.learned_optimizers import common  # type: ignore[import-not-found]
    submodule = types.ModuleType("learned_optimization.learned_optimization")
    submodule.tree_utils = tree_utils  # type: ignore[attr-defined]
    optimizers = types.ModuleType("learned_optimization.learned_optimization.learned_optimizers")
    optimizers.common = common  # type: ignore[attr-defined]
    modules = {submodule.__name__: submodule, optimizers.__name__: optimizers}
    sys.modules.update(modules)
    try:
        sys.modules["base"] = _file(folder / "base.py")
        return _file(folder / "network.py")
    finally:
        for name in ("base", *modules):
            sys.modules.pop(name, None)


def _file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"open_peer_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
