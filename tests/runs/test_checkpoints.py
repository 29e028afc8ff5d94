import hashlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from runs.checkpoints import MANIFEST, META, STATE, Checkpoints, damage
from runs.errors import ArtifactRefused, DiskError


class Adam(NamedTuple):
    count: jax.Array
    mu: dict


def make(seed=0):
    key = jax.random.key(seed)
    return {
        "theta": {"w": jax.random.normal(key, (3, 4)), "b": jnp.zeros((0,), jnp.float32)},
        "half": jnp.arange(5, dtype=jnp.bfloat16),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 2),
        "lives": [Adam(jnp.int32(seed), {"a/b": jnp.array([True, False])}), ()],
        "host": (np.float64(1 / 3), np.arange(3, dtype=np.int64), seed, 0.1, True),
        "weak": jnp.asarray(2.0),
    }


def same(one, two):
    def bits(leaf):
        typed = hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if typed else leaf)

    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert type(a) is type(b)
        assert bits(a).dtype == bits(b).dtype
        assert bits(a).tobytes() == bits(b).tobytes()
        assert getattr(a, "weak_type", None) == getattr(b, "weak_type", None)
    return True


def test_any_tree_comes_back_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest(make()) is None
    checkpoints.save(7, make(3), {"env_steps": 12, "note": "é"})
    step, tree, extra = checkpoints.latest(make()) or pytest.fail("nothing restored")
    assert (step, extra) == (7, {"env_steps": 12, "note": "é"})
    assert same(tree, make(3))
    tree["host"][1][0] = 5  # numpy leaves are writable again


def test_a_tree_of_shapes_is_enough_to_restore(tmp_path):
    def start():
        return {"key": jax.random.key(1), "x": jnp.ones((2, 3)), "n": jnp.int32(4)}

    Checkpoints(tmp_path).save(1, start(), {})
    restored = Checkpoints(tmp_path).latest(jax.eval_shape(start))
    assert restored is not None
    assert same(restored[1], start())


def test_the_newest_are_kept_and_saving_a_step_again_changes_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in [5, 10, 100, 100]:
        checkpoints.save(step, {"x": jnp.float32(step)}, {})
    assert checkpoints.steps() == [10, 100]
    assert sorted(os.listdir(tmp_path)) == ["000000010", "000000100"]


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at // 8] ^= 1 << at % 8
    path.write_bytes(data)


def test_no_flipped_bit_in_any_file_is_silent(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make(), {"a": 1})
    folder = tmp_path / "000000001"
    draw = random.Random(0)  # noqa: S311
    flips = 0
    for name in [STATE, META, MANIFEST]:
        bits = (folder / name).stat().st_size * 8
        for at in draw.sample(range(bits), 350):
            flip(folder / name, at)
            problem = damage(folder)
            assert problem is not None
            assert name in problem or name == MANIFEST
            flip(folder / name, at)
            flips += 1
    assert damage(folder) is None
    assert flips >= 1000


def truncate(folder, name):
    os.truncate(folder / name, (folder / name).stat().st_size // 2)


def swap(folder, name):
    shutil.copy(folder.parent / "000000001" / name, folder / name)


@pytest.mark.parametrize("name", [STATE, META, MANIFEST])
@pytest.mark.parametrize("harm", [truncate, lambda f, n: (f / n).unlink(), swap, lambda f, n: (f / n).write_bytes(b"")])
def test_a_damaged_checkpoint_is_set_aside_and_its_predecessor_used(tmp_path, caplog, name, harm):
    checkpoints = Checkpoints(tmp_path)
    for step in [1, 2]:
        checkpoints.save(step, {"x": jnp.float32(step)}, {"step": step})
    harm(tmp_path / "000000002", name)
    with caplog.at_level(logging.WARNING):
        restored = checkpoints.latest({"x": jnp.float32(0)})
    assert restored == (1, {"x": jnp.float32(1)}, {"step": 1})
    assert "checkpoint 2 is damaged" in caplog.text
    assert "json" in caplog.text or "safetensors" in caplog.text
    assert os.listdir(tmp_path / "bad") == ["000000002.0"]
    checkpoints.save(2, {"x": jnp.float32(2)}, {})
    assert damage(tmp_path / "000000002") is None


def test_when_nothing_can_be_trusted_it_refuses_and_touches_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in [1, 2]:
        checkpoints.save(step, {"x": jnp.float32(step)}, {})
        flip(tmp_path / f"{step:09d}" / STATE, -1)
    for _ in range(2):
        with pytest.raises(ArtifactRefused, match=r"state\.safetensors differs from its SHA-256"):
            checkpoints.latest({"x": jnp.float32(0)})
    assert sorted(os.listdir(tmp_path)) == ["000000001", "000000002"]


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": jnp.zeros((4, 3))}, r"\['w'\]: saved float32\[3, 4\], expected float32\[4, 3\]"),
        ({"w": jnp.zeros((3, 4), jnp.bfloat16)}, r"expected bfloat16\[3, 4\]"),
        ({"v": jnp.zeros((3, 4))}, r"\['v'\]: saved nothing, expected float32"),
        ({"w": jnp.zeros((3, 4)), "k": jax.random.key(0)}, r"\['k'\]: saved nothing, expected key<fry>"),
        ({}, r"\['w'\]: saved float32\[3, 4\], expected nothing"),
    ],
)
def test_a_checkpoint_of_another_experiment_is_refused_by_leaf(tmp_path, like, message):
    Checkpoints(tmp_path).save(1, {"w": jnp.zeros((3, 4))}, {})
    with pytest.raises(ArtifactRefused, match=message):
        Checkpoints(tmp_path).latest(like)


def test_a_newer_schema_is_refused_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr("runs.checkpoints.SCHEMA", 2)
    Checkpoints(tmp_path).save(1, {"w": jnp.zeros(2)}, {})
    monkeypatch.undo()
    with pytest.raises(ArtifactRefused, match="schema 2, this version reads 1; upgrade"):
        Checkpoints(tmp_path).latest({"w": jnp.zeros(2)})


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    code = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from runs.checkpoints import Checkpoints
        from runs.errors import DiskError
        checkpoints = Checkpoints(Path(sys.argv[1]))
        checkpoints.save(1, {"x": np.zeros(10)}, {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        try:
            checkpoints.save(2, {"x": np.zeros(10_000)}, {})
        except DiskError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        checkpoints.save(3, {"x": np.zeros(10)}, {})
    """
    program = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert "saving checkpoint 2 failed" in done.stdout
    assert "needs 80" in done.stdout
    assert sorted(os.listdir(tmp_path)) == ["000000001", "000000003"]


def test_a_place_that_cannot_be_written_is_a_disk_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="saving checkpoint 1 failed"):
        Checkpoints(tmp_path / "file" / "checkpoints").save(1, {"x": jnp.zeros(1)}, {})


CHILD = """
    import sys
    from pathlib import Path
    import numpy as np
    from runs.checkpoints import Checkpoints
    checkpoints = Checkpoints(Path(sys.argv[1]))
    like = {f"leaf{i}": np.zeros(1000) for i in range(20)}
    found = checkpoints.latest(like)
    step = found[0] if found else 0
    print("ready", step, flush=True)
    for step in range(step + 1, step + 1000):
        checkpoints.save(step, {name: zeros + step for name, zeros in like.items()}, {"step": step})
        print(step, flush=True)
"""
LIKE = {f"leaf{i}": np.zeros(1000) for i in range(20)}


def run_child(folder, crash_at=None, delay=0.0):
    """Runs the saving child until it dies; returns the last step it said was saved."""
    environment = os.environ | ({"LEARNED_RL_CRASH_AT": crash_at} if crash_at else {})
    program = [sys.executable, "-c", textwrap.dedent(CHILD), str(folder)]
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        ready = child.stdout.readline().split()
        if not crash_at:
            time.sleep(delay)
            child.send_signal(signal.SIGKILL)
        lines = [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    assert child.returncode == -signal.SIGKILL
    return int(lines[-1]) if lines else int(ready[-1])


def test_killed_at_any_point_of_a_save_the_newest_whole_checkpoint_is_restored(tmp_path):
    points = [f"checkpoint {name}" for name in (STATE, META, MANIFEST, "renamed")]
    for crash_at, delay in [(point, 0.0) for point in points] + [(None, 0.031), (None, 0.083)]:
        said = run_child(tmp_path, crash_at, delay)
        found = Checkpoints(tmp_path).latest(LIKE)
        step, tree, extra = found or (0, LIKE, {"step": 0})
        assert step in (said, said + 1)
        assert extra == {"step": step}
        assert all((leaf == step).all() for leaf in tree.values())
    assert not (tmp_path / "bad").exists()
    Checkpoints(tmp_path).save(10**6, {"x": np.zeros(1)}, {})
    assert not list(tmp_path.glob(".saving-*"))


def test_every_prefix_of_the_writes_of_a_save_restores_the_old_or_the_new_state(tmp_path):
    """Power loss: files of the new step exist up to some byte, but the rename comes last."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"x": jnp.float32(1)}, {})
    checkpoints.save(2, {"x": jnp.float32(2)}, {})
    files = {name: (tmp_path / "000000002" / name).read_bytes() for name in (STATE, META, MANIFEST)}
    before = hashlib.sha256((tmp_path / "000000001" / STATE).read_bytes()).digest()
    for name, data in files.items():
        for length in range(0, len(data), 37):
            (tmp_path / "000000002" / name).write_bytes(data[:length])
            restored = checkpoints.latest({"x": jnp.float32(0)})
            assert restored is not None
            assert restored[0] == 1
            shutil.rmtree(tmp_path / "bad")
            checkpoints.save(2, {"x": jnp.float32(2)}, {})
        (tmp_path / "000000002" / name).write_bytes(data)
    assert hashlib.sha256((tmp_path / "000000001" / STATE).read_bytes()).digest() == before
