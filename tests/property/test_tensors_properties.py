"""What must hold of any tensors on the wire."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neurofed import tensors
from neurofed.errors import ManifestError
from neurofed.v1 import records_pb2 as pb

# A busy machine is no failure.
untimed = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])

dtypes = st.sampled_from([np.dtype(d) for d in ("<f4", "<f2", "<i8", "u1")])
shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
halves = arrays.arrays(np.uint16, shapes).map(lambda bits: bits.view(tensors.BFLOAT16))
models = st.dictionaries(st.text(min_size=1, max_size=20), st.one_of(arrays.arrays(dtypes, shapes), halves), max_size=5)
specs = st.builds(
    pb.TensorSpec,
    name=st.text(max_size=3),
    dtype=st.integers(0, 7),
    shape=st.lists(st.one_of(st.integers(-3, 4), st.integers(-(2**63), 2**63 - 1)), max_size=9),
)
manifests = st.builds(pb.Manifest, tensors=st.lists(specs, max_size=4))


@untimed
@given(models)
def test_any_model_comes_back_bit_by_bit(model):
    manifest = pb.Manifest.FromString(tensors.manifest_of(model).SerializeToString())
    data = tensors.pack(model)
    assert tensors.size_bytes(manifest, len(data)) == len(data)
    got = tensors.unpack(manifest, data)
    assert list(got) == list(model)
    for name, array in model.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        assert got[name].tobytes() == array.tobytes()
    assert tensors.model_digest(got) == tensors.model_digest(model)


@untimed
@given(manifests, st.binary(max_size=64))
def test_any_manifest_fits_or_is_refused(manifest, data):
    try:
        got = tensors.unpack(manifest, data)
    except ManifestError:
        return
    assert sum(array.nbytes for array in got.values()) == len(data)
