"""Chip files: what is read, and what is said of one that is wrong."""

import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import neuro_engine.chip
from neuro_engine.chip import Chip, ChipError, available
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


def test_only_one_constant_is_fitted():
    sources = Chip.load("core20_28nm").sources
    assert [key for key, source in sources.items() if source.startswith("fitted:")] == ["overhead.control_fraction"]


def test_energies_are_the_published_ones_scaled_to_28_nm():
    # Stillmaker and Baas as coded in Accelergy: a V^2 + b V + c, linear between nodes, at 0.9 V:
    # 45 nm 0.84433, 32 nm 0.54121, 20 nm 0.20079 => 28 nm = 2/3 x 0.54121 + 1/3 x 0.20079 = 0.42774,
    # 40 nm = 8/13 x 0.84433 + 5/13 x 0.54121 = 0.72774.
    from45, from40 = 0.42774 / 0.84433, 0.42774 / 0.72774
    energy = Chip.load("core20_28nm").energy
    assert energy.fp16_add_pj == pytest.approx(0.4 * from45, rel=1e-3)
    assert energy.fp16_multiply_pj == pytest.approx(1.1 * from45, rel=1e-3)
    assert energy.fp32_add_pj == pytest.approx(0.9 * from45, rel=1e-3)
    assert energy.fp32_multiply_pj == pytest.approx(3.7 * from45, rel=1e-3)
    assert energy.sram_pj_per_bit == pytest.approx(20 / 64 * from45, rel=1e-3)
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
    ],
)
def test_a_wrong_file_is_named_with_key_expectation_and_value(tmp_path, old, new, message):
    path = edited(tmp_path, old, new)
    with pytest.raises(ChipError) as caught:
        Chip.load(path)
    assert "mine.toml" in str(caught.value)
    assert message in str(caught.value)


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
    ],
)
def test_an_override_is_checked_like_a_file(key, value, message):
    with pytest.raises(ChipError, match=message):
        Chip.load("core20_28nm").override({key: value})


def test_chip_and_cost_do_not_import_torch():
    code = "import sys, neuro_engine.chip, neuro_engine.cost; sys.exit('torch' in sys.modules)"
    root = Path(neuro_engine.chip.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
