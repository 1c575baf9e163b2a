"""Our writer of safetensors against the library's reader."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load

from fedrevive.results.tensors import load_tensors, tensor_chunks

DTYPES = st.sampled_from(["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3))


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: name != "__metadata__"), ARRAYS, max_size=4))
def test_the_library_reads_what_we_write(tensors):
    read = load(b"".join(tensor_chunks(tensors)))
    assert read.keys() == tensors.keys()
    for name, array in tensors.items():
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
        assert read[name].tobytes() == array.tobytes()


def test_memory_order_does_not_matter_and_contiguous_arrays_are_not_copied(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"".join(tensor_chunks({"a": array.transpose(2, 0, 1)})))
    np.testing.assert_array_equal(load_tensors(path)["a"], array.transpose(2, 0, 1))
    *_, chunk = tensor_chunks({"a": array})
    assert np.shares_memory(np.frombuffer(chunk, np.uint8), array)


def test_other_dtypes_are_refused():
    with pytest.raises(TypeError, match="complex"):
        list(tensor_chunks({"a": np.zeros(1, np.complex64)}))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as missing:
        load_tensors(tmp_path / "a.safetensors")
    assert missing.value.filename == str(tmp_path / "a.safetensors")
