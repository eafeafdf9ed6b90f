"""Chip files: what is read, and what is said of one that is wrong."""

import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import neuro_engine.chip
from neuro_engine.chip import Chip, ChipError, available
from neuro_engine.chip_schema import Mode
from neuro_engine.technology import scale
from neuro_engine.trace import Engine

SHIPPED = Path(neuro_engine.chip.__file__).with_name("chips") / "core20_28nm.toml"
CLOCK = "frequency_hz = { value = 500e6,"
COUNT = "count = { value = 20,"


def edited(tmp_path, old, new):
    text = SHIPPED.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", available())
def test_every_shipped_chip_loads_and_is_named_after_its_file(name):
    assert Chip.load(name).name == name


def test_the_shipped_chip_has_the_values_of_its_file():
    chip = Chip.load("core20_28nm")
    assert (chip.cores.count, chip.clock.frequency_hz) == (20, 500e6)
    assert chip.lanes.array(Engine.BP) == (16, 16)
    table = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    del table["chip"]
    entries = {f"{group}.{key}": entry for group, keys in table.items() for key, entry in keys.items()}
    assert dict(chip.values) == {key: entry["value"] for key, entry in entries.items()}
    assert dict(chip.sources) == {key: entry["source"] for key, entry in entries.items()}


def test_the_shipped_chips():
    assert available() == ("core20_28nm", "eyeriss_like", "fpga_worker", "loihi_like", "single_core")
    board, eyeriss = Chip.load("fpga_worker"), Chip.load("eyeriss_like")
    assert (board.technology.kind, board.clock.frequency_hz, board.cores.count) == ("fpga", 150e6, 4)
    assert board.lanes.array(Engine.FP) == board.lanes.array(Engine.BP) == board.lanes.array(Engine.WG) == (8, 8)
    assert board.dram.bandwidth_bytes_per_s == 19.2e9
    assert (eyeriss.skipping.of(Engine.BP), eyeriss.dataflow.of(Engine.FP)) == ("gate", "weight_stationary")


def test_the_points_for_comparison_scale_their_arithmetic_from_45_nm():
    for name in ("eyeriss_like", "loihi_like"):
        chip = Chip.load(name)
        at = chip.technology
        for key, pj in (("fp16_add", 0.4), ("fp16_multiply", 1.1), ("fp32_add", 0.9), ("fp32_multiply", 3.7)):
            scaled = scale(pj, 45, at.node_nm, 0.9, at.voltage_v)
            assert getattr(chip.energy, f"{key}_pj") == pytest.approx(scaled, rel=2e-3)


def test_only_one_constant_is_fitted():
    sources = Chip.load("core20_28nm").sources
    assert [key for key, source in sources.items() if source.startswith("fitted:")] == ["overhead.control_fraction"]


def test_energies_are_the_published_ones_scaled_to_28_nm():
    # The values at 0.9 V of test_technology.py.
    from45, from40, from32 = 0.42774 / 0.84433, 0.42774 / 0.72774, 0.42774 / 0.54121
    energy = Chip.load("core20_28nm").energy
    assert energy.fp16_add_pj == pytest.approx(0.4 * from45, rel=1e-3)
    assert energy.fp16_multiply_pj == pytest.approx(1.1 * from45, rel=1e-3)
    assert energy.fp32_add_pj == pytest.approx(0.9 * from45, rel=1e-3)
    assert energy.fp32_multiply_pj == pytest.approx(3.7 * from45, rel=1e-3)
    assert energy.sram_8kb_pj_per_bit == pytest.approx(10 / 64 * from45, rel=1e-3)
    assert energy.sram_32kb_pj_per_bit == pytest.approx(20 / 64 * from45, rel=1e-3)
    assert energy.sram_1mb_pj_per_bit == pytest.approx(100 / 64 * from45, rel=1e-3)
    assert energy.noc_pj_per_bit_hop == pytest.approx(20.74 / 256 * from32, rel=1e-3)
    assert energy.register_pj_per_bit == pytest.approx(0.009 * from40, rel=1e-3)


def test_a_path_loads_like_a_name(tmp_path):
    assert Chip.load(edited(tmp_path, COUNT, "count = { value = 4,")).cores.count == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (CLOCK, "frequenzy_hz = { value = 500e6,", "unknown key clock.frequenzy_hz; did you mean 'frequency_hz'"),
        ("[clock]", "[clok]", "unknown key clok; did you mean 'clock'"),
        ("[dram]\nbandwidth_bytes_per_s =", "[dram]\n# ", "missing key dram.bandwidth_bytes_per_s"),
        ('source = "arXiv:2412.05302, abstract" }', 'origin = "a" }', "unknown key cores.count.origin"),
        (', source = "arXiv:2412.05302, abstract" }', " }", "missing key cores.count.source"),
        ('"arXiv:2412.05302, abstract" }', '" " }', "cores.count.source: expected where"),
        ('"arXiv:2412.05302, abstract" }', '"chosen: " }', "cores.count.source: expected 'chosen: ' and a reason"),
        ('"chosen: pixels" }', "3 }", "lanes.bp_columns.source: expected where"),
        (COUNT, "count = { value = 20.0,", "cores.count.value: expected a whole number, got 20.0"),
        (COUNT, "count = { value = true,", "cores.count.value: expected a whole number, got True"),
        (COUNT, "count = { value = 0,", "cores.count.value: expected a positive, finite number, got 0"),
        (CLOCK, 'frequency_hz = { value = "fast",', "clock.frequency_hz.value: expected a number, got 'fast'"),
        (CLOCK, "frequency_hz = { value = inf,", "clock.frequency_hz.value: expected a positive, finite"),
        (CLOCK, "frequency_hz = { value = nan,", "clock.frequency_hz.value: expected a positive, finite"),
        (COUNT, "count = 20 #", "cores.count: expected { value = ..., source = ... }, got 20"),
        ('name = "core20_28nm"', "name = 7", "chip.name: expected a text, got 7"),
        ("[clock]", "[clock", "not a TOML file"),
        (CLOCK, "frequency = { value = 500e6,", "unknown key clock.frequency; did you mean 'frequency_hz'"),
        (
            'membrane = { value = "store16",',
            'membrane = { value = "store8",',
            "policy.membrane.value: expected one of 'store16', 'mask8', 'mask1', 'recompute', got 'store8'",
        ),
        (
            'lanes = { value = "lockstep",',
            "lanes = { value = 1,",
            "skipping.lanes.value: expected one of 'ideal', 'lockstep', got 1",
        ),
        (
            "queue_depth = { value = 4,",
            "queue_depth = { value = -1,",
            "skipping.queue_depth.value: expected a finite number of at least 0, got -1",
        ),
        (
            "empty_word_cycles = { value = 1,",
            "empty_word_cycles = { value = 3,",
            "skipping.empty_word_cycles.value: expected a finite number of at least 1 and at most 2, got 3",
        ),
        (
            "efficiency = { value = 0.8,",
            "efficiency = { value = 1.1,",
            "dram.efficiency.value: expected a positive, finite number of at most 1, got 1.1",
        ),
        (
            "node_nm = { value = 28,",
            "node_nm = { value = 5,",
            "technology.node_nm.value: expected a finite number of at least 7 and at most 130, got 5",
        ),
        ("bank_bytes = { value = 32768,", "bank_bytes = { value = -1,", "memory.bank_bytes.value: expected a positive"),
    ],
)
def test_a_wrong_file_is_named_with_key_expectation_and_value(tmp_path, old, new, message):
    path = edited(tmp_path, old, new)
    with pytest.raises(ChipError) as caught:
        Chip.load(path)
    assert "mine.toml" in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_group_that_is_no_table(tmp_path):
    path = tmp_path / "mine.toml"
    groups = [field.name for field in dataclasses.fields(Chip) if field.name not in ("name", "description", "sources")]
    lines = [f"{group} = 1" for group in groups]
    path.write_text("\n".join([*lines, "[chip]", 'name = "a"', 'description = "b"']), encoding="utf-8")
    with pytest.raises(ChipError, match=r"\[clock\]: expected a table, got 1"):
        Chip.load(path)


def test_a_name_that_is_not_shipped_gets_the_nearest():
    with pytest.raises(ChipError, match=r"no chip 'core20_28mn'; did you mean 'core20_28nm'"):
        Chip.load("core20_28mn")
    with pytest.raises(ChipError, match=r"no chip 'zzz'; expected one of .*core20_28nm"):
        Chip.load("zzz")


def test_a_file_that_is_not_there():
    with pytest.raises(ChipError, match=r"nowhere\.toml: cannot be read"):
        Chip.load("nowhere.toml")


def test_an_override_changes_value_and_source_only_of_its_key():
    chip = Chip.load("core20_28nm")
    wide = chip.override({"lanes.bp_columns": 32})
    assert wide.lanes == dataclasses.replace(chip.lanes, bp_columns=32)
    assert wide.sources["lanes.bp_columns"] == "chosen: set by the caller"
    assert wide.sources["lanes.bp_rows"] == chip.sources["lanes.bp_rows"]
    assert chip.override({}) == chip


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lanes.bp_colums", 32, "unknown key lanes.bp_colums; did you mean 'bp_columns'"),
        ("lanes", 32, "unknown key lanes."),
        ("lanes.bp_columns", 0, "expected a positive"),
        ("skipping.wg", "skp", "skipping.wg.value: expected one of 'dense', 'gate', 'skip', got 'skp'"),
        ("skipping.wg", 1, "skipping.wg.value: expected one of"),
        ("lanes.bp_columns", "wide", "expected a whole number, got 'wide'"),
    ],
)
def test_an_override_is_checked_like_a_file(key, value, message):
    with pytest.raises(ChipError, match=message):
        Chip.load("core20_28nm").override({key: value})


def test_an_override_takes_texts():
    chip = Chip.load("core20_28nm")
    gated = chip.override({"skipping.wg": "gate", "lanes.wg_rows": 8})
    assert gated.skipping == dataclasses.replace(chip.skipping, wg=Mode.GATE)
    assert gated.override({"skipping.wg": chip.values["skipping.wg"], "lanes.wg_rows": 16}) == chip


def test_another_technology_scales_what_is_on_the_chip():
    chip = Chip.load("core20_28nm")
    small = chip.override({"technology.node_nm": 16, "technology.voltage_v": 0.8, "energy.fp16_add_pj": 0.5})
    assert small.energy.fp32_add_pj == pytest.approx(scale(chip.energy.fp32_add_pj, 28, 16, 0.9, 0.8))
    assert small.energy.sram_1mb_pj_per_bit == pytest.approx(scale(chip.energy.sram_1mb_pj_per_bit, 28, 16, 0.9, 0.8))
    assert (small.energy.fp16_add_pj, small.energy.dram_pj_per_bit) == (0.5, chip.energy.dram_pj_per_bit)
    assert small.sources["energy.fp32_add_pj"] == "chosen: set by the caller; scaled from 28 nm at 0.9 V"
    assert small.lanes == chip.lanes


def based(tmp_path, body, base="core20_28nm"):
    path = tmp_path / "mine.toml"
    head = f'[chip]\nname = "mine"\ndescription = "a chip that stands on another"\nbase = "{base}"\n'
    path.write_text(head + body, encoding="utf-8")
    return path


def test_a_file_with_a_base_holds_only_what_differs(tmp_path):
    mine, base = Chip.load(based(tmp_path, '[cores]\ncount = { value = 3, source = "mine" }')), Chip.load("core20_28nm")
    assert mine == dataclasses.replace(base.override({"cores.count": 3}), name=mine.name, description=mine.description)
    assert (mine.sources["cores.count"], mine.sources["cores.engines"]) == ("mine", base.sources["cores.engines"])


@pytest.mark.parametrize(
    ("body", "base", "message"),
    [
        ("", "core20_28mn", r"mine\.toml: chip\.base: no chip 'core20_28mn'; did you mean 'core20_28nm'"),
        ("", "./other.toml", r"mine\.toml: chip\.base: no chip './other\.toml'"),
        ("[cores]\ncounts = { value = 3 }", "core20_28nm", "unknown key cores.counts; did you mean 'count'"),
        ("[cores]\ncount = { value = 3 }", "core20_28nm", "missing key cores.count.source"),
        ("[core]\ncount = 3", "core20_28nm", "unknown key core; did you mean 'cores'"),
    ],
)
def test_a_file_with_a_base_is_checked_like_any(tmp_path, body, base, message):
    with pytest.raises(ChipError, match=message):
        Chip.load(based(tmp_path, body, base))


@pytest.mark.parametrize("name", available())
def test_every_value_of_a_shipped_chip_has_a_source_and_survives_an_override(name):
    chip = Chip.load(name)
    assert set(chip.sources) == set(chip.values)
    assert chip.override(dict(chip.values)) == chip


def test_chip_and_cost_do_not_import_torch():
    code = "import sys, neuro_engine.chip, neuro_engine.cost; sys.exit('torch' in sys.modules)"
    root = Path(neuro_engine.chip.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
