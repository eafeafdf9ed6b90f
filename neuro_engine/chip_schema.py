"""What a chip file holds: one dataclass a group, one field a key, its unit in its name.

A number is positive unless the field's metadata says otherwise; a `StrEnum` is one of its members.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from neuro_engine.technology import MAX_NODE_NM, MIN_NODE_NM
from neuro_engine.trace import Engine


class Kind(StrEnum):
    """What the chip is made as."""

    ASIC = "asic"
    FPGA = "fpga"


class Engines(StrEnum):
    """How FP, BP and WG of a core live together."""

    PARALLEL = "parallel"
    """Each has an array of its own and they work at the same time."""
    SHARED = "shared"
    """They take turns on one array, whose size must be given for each."""


class Dataflow(StrEnum):
    """Which operand of a matrix product (m x k) by (k x n) stays in the lanes while the other streams past."""

    OUTPUT_STATIONARY = "output_stationary"
    """The sums: currents in FP, errors in BP, weight gradients in WG."""
    WEIGHT_STATIONARY = "weight_stationary"
    """The k x n operand: weights in FP and BP, inputs in WG."""
    INPUT_STATIONARY = "input_stationary"
    """The m x k operand: inputs in FP, gradients of the current in BP and WG."""


class Feed(StrEnum):
    """How operands reach the lanes."""

    BROADCAST = "broadcast"
    """All lanes of a row or column at once."""
    SYSTOLIC = "systolic"
    """From lane to lane, a cycle each, so that every tile fills and drains."""


class Mode(StrEnum):
    """What an array does where an operand is zero."""

    DENSE = "dense"
    """Computes all the same."""
    GATE = "gate"
    """Saves the arithmetic's energy, not the cycle and not the operand's read."""
    SKIP = "skip"
    """Saves both."""


class Grouping(StrEnum):
    """How the lanes of an array that skips go on to their next operands."""

    IDEAL = "ideal"
    """Each by itself: none is idle while operations are left."""
    LOCKSTEP = "lockstep"
    """Together, word by word, as the slowest of them."""


class MembranePolicy(StrEnum):
    """What FP keeps of a spiking layer's membrane for BP."""

    STORE16 = "store16"
    """The membrane, 16 bit."""
    MASK8 = "mask8"
    """The surrogate's derivative as a code of 8 bits, the spike included."""
    MASK1 = "mask1"
    """Whether the derivative is zero, 1 bit: for rectangular surrogates alone. BP reads the spikes too."""
    RECOMPUTE = "recompute"
    """Nothing: FP runs a second time before BP."""


class WeightPolicy(StrEnum):
    """Where weights and their gradients are while a batch runs."""

    STREAM = "stream"
    """In DRAM: each engine fetches, or writes, a layer's once a batch."""
    RESIDENT = "resident"
    """In the buffers of the cores where those of the whole network fit, else as with `stream`."""


@dataclass(frozen=True, slots=True)
class Technology:
    """What the chip is made in; all energies but DRAM's are for this node and voltage."""

    kind: Kind
    node_nm: float = field(metadata={"at_least": MIN_NODE_NM, "at_most": MAX_NODE_NM})
    voltage_v: float = field(metadata={"at_least": 0.5, "at_most": 1.2})


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of all cores."""

    frequency_hz: float


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores."""

    count: int
    engines: Engines


@dataclass(frozen=True, slots=True)
class Lanes:
    """Operations a core starts in one cycle: rows x columns of the arrays; neurons; weights of the optimizer.

    `accumulators` are the sums that a lane of an output-stationary array holds: time steps that one weight serves.
    """

    fp_rows: int
    fp_columns: int
    bp_rows: int
    bp_columns: int
    wg_rows: int
    wg_columns: int
    accumulators: int
    neuron: int
    update: int

    def array(self, engine: Engine) -> tuple[int, int]:
        """Rows and columns of the array of FP, BP or WG.

        Raises:
            KeyError: for UPDATE, which has no array.
        """
        return {
            Engine.FP: (self.fp_rows, self.fp_columns),
            Engine.BP: (self.bp_rows, self.bp_columns),
            Engine.WG: (self.wg_rows, self.wg_columns),
        }[engine]


@dataclass(frozen=True, slots=True)
class Dataflows:
    """The dataflow of each array, and how its operands arrive."""

    fp: Dataflow
    bp: Dataflow
    wg: Dataflow
    feed: Feed

    def of(self, engine: Engine) -> Dataflow:
        """The dataflow of FP, BP or WG.

        Raises:
            KeyError: for UPDATE, which has no array.
        """
        return {Engine.FP: self.fp, Engine.BP: self.bp, Engine.WG: self.wg}[engine]


@dataclass(frozen=True, slots=True)
class Skipping:
    """What each array does with zeros; words, queue and empty words are those of `neuro_engine.cost.rows`."""

    fp: Mode
    bp: Mode
    wg: Mode
    lanes: Grouping
    word_bits: int = field(metadata={"at_least": 1, "at_most": 512})
    queue_depth: int = field(metadata={"at_least": 0})
    empty_word_cycles: int = field(metadata={"at_least": 1, "at_most": 2})

    def of(self, engine: Engine) -> Mode:
        """The mode of FP, BP or WG.

        Raises:
            KeyError: for UPDATE, which has no array.
        """
        return {Engine.FP: self.fp, Engine.BP: self.bp, Engine.WG: self.wg}[engine]


@dataclass(frozen=True, slots=True)
class Memory:
    """Word sizes, and the capacities of the buffers of one core, which are built of banks."""

    word_bits: int
    accumulator_bits: int
    weight_buffer_bytes: int
    weight_gradient_buffer_bytes: int
    spike_in_buffer_bytes: int
    spike_out_buffer_bytes: int
    state_buffer_bytes: int
    bank_bytes: int


@dataclass(frozen=True, slots=True)
class Noc:
    """The mesh between the cores; where it has fewer nodes than there are cores, several share one."""

    rows: int
    columns: int
    flit_bits: int
    flits_per_cycle: float
    hop_cycles: float


@dataclass(frozen=True, slots=True)
class Dram:
    """The DRAM shared by the cores; `efficiency` is the part of its peak bandwidth that row misses leave."""

    bandwidth_bytes_per_s: float
    efficiency: float = field(metadata={"at_most": 1})
    burst_bytes: int


@dataclass(frozen=True, slots=True)
class Link:
    """The board's link to an aggregator, in each direction; the bill of a trace does not depend on it."""

    bandwidth_bytes_per_s: float
    energy_pj_per_bit: float


@dataclass(frozen=True, slots=True)
class Policy:
    """What goes to DRAM."""

    membrane: MembranePolicy
    weights: WeightPolicy


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one operation, or of one bit moved: for SRAM, by the size of the array it is read from."""

    fp16_add_pj: float
    fp16_multiply_pj: float
    fp32_add_pj: float
    fp32_multiply_pj: float
    register_pj_per_bit: float
    sram_8kb_pj_per_bit: float
    sram_32kb_pj_per_bit: float
    sram_1mb_pj_per_bit: float
    noc_pj_per_bit_hop: float
    dram_pj_per_bit: float


@dataclass(frozen=True, slots=True)
class Neuron:
    """FP16 operations and bits of state through SRAM, for one neuron in one time step, in FP and in BP."""

    fp_multiplies: int
    fp_adds: int
    fp_state_bits: int
    bp_multiplies: int
    bp_adds: int
    bp_state_bits: int


@dataclass(frozen=True, slots=True)
class Update:
    """FP32 operations for one weight in one optimizer step."""

    multiplies: int
    adds: int


@dataclass(frozen=True, slots=True)
class Overhead:
    """Control as a fraction of the dynamic energy of the core; leakage as a fraction of both together."""

    control_fraction: float = field(metadata={"at_least": 0})
    leakage_fraction: float = field(metadata={"at_least": 0})
