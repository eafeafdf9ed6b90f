"""What the hardware commands are pointed at: a network of the catalogue, a workload's network, or a NIR file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from neurofed.errors import ConfigError, UnknownChipError, UnknownNameError

if TYPE_CHECKING:
    from neuro_engine.chip import Chip
    from neuro_engine.cost.networks import NetworkShape
    from neuro_engine.cost.sparsity import Sparsity

WORKLOAD: Final = "workload:"
_BATCH: Final = 16
_NIR_STEPS: Final = 4


@dataclass(frozen=True, slots=True)
class Target:
    """A network to be profiled.

    Attributes:
        shape: its layers.
        batch: samples of a training step, unless something else is asked for.
        sparsity: how sparse it is: measured where something could be, else assumed.
    """

    shape: NetworkShape
    batch: int
    sparsity: Sparsity


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Errors of the engine become ours: one line that begins with what was being read."""
    from neuro_engine.chip import ChipError

    try:
        yield
    except ChipError as error:
        raise UnknownChipError(f"{what}: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{what}: {error}") from None


def load_chip(name: str, settings: tuple[str, ...]) -> Chip:
    """A chip by name or file, with the values of `--set KEY=VALUE`.

    Raises:
        UnknownChipError: no such chip, key or value.
    """
    from neuro_engine.chip import Chip
    from neuro_engine.sweep import setting

    with in_one_line("--chip"):
        chip = Chip.load(name)
    with in_one_line("--set"):
        return chip.override(dict(setting(chip, text) for text in settings), "given: --set") if settings else chip


def load_target(text: str, preset: str, steps: int | None = None, norm: str = "") -> Target:
    """The network that TARGET names.

    Args:
        text: a name of the catalogue, `workload:NAME`, or a path that ends in `.nir`.
        preset: the workload's settings.
        steps: time steps instead of the network's own.
        norm: a norm instead of the network's own; not for a workload, whose sparsity is measured with its own.

    Raises:
        ConfigError: nothing of that name, or a file that cannot be read.
    """
    from neuro_engine.claims import NETWORKS
    from neuro_engine.cost.networks import network
    from neuro_engine.cost.sparsity import Sparsity

    if text.startswith(WORKLOAD):
        if steps is not None or norm:
            raise ConfigError(f"--steps, --norm: expected neither for a workload, got {steps or norm!r}")
        return _workload(text.removeprefix(WORKLOAD), preset)
    if text.endswith(".nir"):
        shape = _nir(Path(text), steps or _NIR_STEPS)
    else:
        try:
            shape = network(text)
        except ValueError as error:
            raise UnknownNameError(f"{error}; or {WORKLOAD}NAME, or the path of a .nir file") from None
        shape = _with_steps(shape, steps) if steps else shape
    try:
        shape = replace(shape, norm=norm) if norm else shape
    except ValueError as error:
        raise UnknownNameError(f"--norm: {error}") from None
    return Target(shape, NETWORKS.get(text, _BATCH), Sparsity.assumed(shape))


def load_sparsity(target: Target, file: Path | None, rate: float | None, density: float | None) -> Sparsity:
    """How sparse the target is: its own figures, those of a file in their place, and those given in place of both.

    Raises:
        ConfigError: a file that cannot be read, a layer that the network has not, or a number outside [0, 1].
    """
    from neuro_engine.cost.synthetic import synthetic_trace

    sparsity = target.sparsity if file is None else _read(file, target.shape)
    with in_one_line("--sparsity" if file else "sparsity"):
        synthetic_trace(target.shape, sparsity)  # knows whether the layers are the network's
    given = {"spike_rate": rate, "gradient_density": density}
    for name, value in given.items():
        if value is not None:
            with in_one_line(f"--{name.replace('_', '-')}"):
                sparsity = _given(sparsity, name, value)
    return sparsity


def _given(sparsity: Sparsity, name: str, value: float) -> Sparsity:
    """One number for all layers, whatever was known of each."""
    forget = {name: None, "input_density": None} if name == "spike_rate" else {name: None}
    layers = {layer: replace(known, **forget) for layer, known in sparsity.layers.items()}
    origin = f"given: {name} {value:g}; {sparsity.origin}"
    return replace(sparsity, **{name: value}, layers=layers, origin=origin)


def _with_steps(shape: NetworkShape, steps: int) -> NetworkShape:
    layers = {name: replace(geometry, steps=steps) for name, geometry in shape.layers.items()}
    return replace(shape, layers=layers, description=f"{shape.description}, but T={steps}")


def _workload(name: str, preset: str) -> Target:
    """A workload's network, and its sparsity in one training step of a fresh model on its own data."""
    from neuro_engine.chip import Chip
    from neuro_engine.cost.networks import NetworkShape
    from neuro_engine.cost.sparsity import Sparsity
    from workloads import registry

    workload = registry.load(name)
    task = workload.prepare(workload.settings(preset, {}), 0)

    from neuro_engine.core_group import CoreGroup  # torch, once it is known that there is something to build

    model = task.build_model()
    task.calibrate(model)
    group = CoreGroup(model, Chip.load("core20_28nm"), precision=task.precision)  # a trace knows no chip
    batch = next(iter(task.train_batches(0, 1, 1, 0)))
    trace = group.train_step(batch.inputs, batch.targets, task.loss, task.optimizer(model)).trace
    if trace is None:
        raise ConfigError(f"workload {name!r}: expected a step that leaves a trace, got none")
    shape = NetworkShape.of_trace(trace, f"{WORKLOAD}{name}", _norm(model))
    shape = replace(shape, description=f"preset {preset}: {workload.summary}")
    measured = replace(Sparsity.measured(trace), origin="measured: one training step of a fresh model")
    return Target(shape, batch.size, measured)


def _norm(model: Any) -> str:
    """The norm that counts: that of the batch where any layer has it, as it makes all gradients dense."""
    from neuro_engine.layers import BatchNorm

    norms = [layer.norm for _, layer in model.engine_layers() if hasattr(layer, "norm")]
    if any(isinstance(norm, BatchNorm) for norm in norms):
        return "batch"
    return "weight" if any(norm.has_gain for norm in norms) else "none"


def _nir(path: Path, steps: int) -> NetworkShape:
    from neuro_engine.cost.networks import shape_from_nir

    try:
        import nir
    except ImportError:
        raise ConfigError(f"{path}: needs the package nir: pip install 'neurofed[interop]'") from None
    if not path.is_file():
        raise ConfigError(f"{path}: expected a NIR file, got none there")
    try:
        graph = nir.read(path)
    except Exception as error:  # whatever its reader, or HDF5, trips over
        raise ConfigError(f"{path}: not a NIR file: {_first_line(error)}") from None
    with in_one_line(str(path)):
        return shape_from_nir(graph, steps, name=path.stem)


def _read(path: Path, shape: NetworkShape) -> Sparsity:
    """A file of `Sparsity.load`, or the report of a run, whose figures by layer are measured."""
    from neuro_engine.cost.sparsity import LayerSparsity, Sparsity

    final = _final(path)
    if final is None:
        with in_one_line("--sparsity"):
            return Sparsity.load(path)
    rates, densities = (_by_layer(path, final, name) for name in ("spike_rates", "gradient_densities"))
    layers = {}
    for name in {**rates, **densities}:
        with in_one_line(f"--sparsity: {path}: layer {name!r}"):
            layers[name] = LayerSparsity(spike_rate=rates.get(name), gradient_density=densities.get(name))
    return replace(Sparsity.assumed(shape), layers=layers, origin="measured: the last round of a run")


def _final(path: Path) -> Mapping[str, Any] | None:
    """The part of a run's report that has the sparsity; None for any other file."""
    if path.suffix != ".json":
        return None
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # `Sparsity.load` says what is wrong
    final = table.get("final") if isinstance(table, dict) else None
    return final if isinstance(final, dict) else None


def _by_layer(path: Path, final: Mapping[str, Any], name: str) -> Mapping[str, float]:
    found = final.get(name)
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"--sparsity: {path}: final.{name}: expected figures by layer, got {found!r}")
    return found


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
