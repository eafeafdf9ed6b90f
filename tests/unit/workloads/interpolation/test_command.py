import numpy as np
import pytest

from workloads.interpolation.__main__ import main

Pillow = pytest.importorskip("PIL.Image", reason="needs the package pillow")


@pytest.mark.parametrize(("dtype", "shape"), [(np.uint8, (9, 8)), (np.uint8, (9, 8, 3)), (np.uint16, (9, 8))])
def test_an_image_is_enlarged_and_its_pixels_are_kept(tmp_path, capsys, dtype, shape):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)
    Pillow.fromarray(image).save(tmp_path / "in.png")
    assert main([str(tmp_path / "in.png"), "--scale", "3", "--passes", "1", "-o", str(tmp_path / "out.png")]) == 0
    result = np.asarray(Pillow.open(tmp_path / "out.png"))
    assert result.shape[:2] == (27, 24)
    assert np.array_equal(result[::3, ::3], image)
    assert "pass 1 of 1" in capsys.readouterr().err


def test_errors_are_one_line_and_have_their_exit_code(tmp_path, capsys):
    out = str(tmp_path / "out.png")
    (tmp_path / "text.png").write_text("no image")
    Pillow.new("RGBA", (9, 9)).save(tmp_path / "alpha.png")
    Pillow.new("1", (9, 9)).save(tmp_path / "bits.png")
    Pillow.new("L", (9, 9)).save(tmp_path / "grey.png")
    cases = [("text.png", out, 40), ("none.png", out, 40), ("alpha.png", out, 10), ("bits.png", out, 10)]
    for name, target, code in [*cases, ("grey.png", str(tmp_path / "out.xyz"), 10)]:
        assert main([str(tmp_path / name), "--passes", "0", "-o", target]) == code
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        assert len(lines) == 1
