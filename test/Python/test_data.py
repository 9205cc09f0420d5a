# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Data: what is accepted, and that all else is one clear line with exit code 2."""
import numpy as np
import pytest

from lowbit import InvalidInput
from lowbit.data import open_data
from lowbit.feeds import Feeder, Window
from lowbit.signature import Value

IMAGE = Value("image", "f32", (-1, 3), ("N", ""))
ONE = Value("image", "f32", (1, 3), ("", ""))
LOGITS = Value("logits", "f32", (-1, 2), ("N", ""))
IDS = Value("input_ids", "i64", (1, -1), ("", "seq"))


def feeds(source, inputs=(IMAGE,), outputs=(LOGITS,), **options):
    return list(Feeder(open_data(source), list(inputs), list(outputs), **options))


def images(count):
    return np.arange(count * 3, dtype=np.float32).reshape(count, 3)


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def error(source, **options):
    with pytest.raises(InvalidInput) as caught:
        feeds(source, **options)
    assert "\n" not in str(caught.value) and caught.value.code == 2
    return str(caught.value)


def test_batches_of_a_dynamic_first_axis(tmp_path):
    path = save(tmp_path / "d.npz", image=images(7), label=np.arange(7))
    found = feeds(path, batch=3, label_key="label")
    assert [f.count for f in found] == [3, 3, 1] and [f.start for f in found] == [0, 3, 6]
    assert np.array_equal(np.concatenate([f.inputs["image"] for f in found]), images(7))
    assert found[1].extras["label"].tolist() == [3, 4, 5]


def test_a_fixed_first_axis_gets_one_sample_at_a_time(tmp_path):
    found = feeds(save(tmp_path / "d.npz", image=images(4)), inputs=[ONE], batch=32)
    assert [f.inputs["image"].shape for f in found] == [(1, 3)] * 4


def test_samples_may_be_whole_feeds(tmp_path):
    found = feeds(save(tmp_path / "d.npz", image=images(4)[:, None]), inputs=[ONE], batch=32)
    assert [f.inputs["image"].shape for f in found] == [(1, 3)] * 4
    assert found[2].inputs["image"][0].tolist() == [6, 7, 8]


def test_a_fixed_batch_must_divide_the_samples(tmp_path):
    pair = Value("image", "f32", (2, 3), ("", ""))
    path = save(tmp_path / "d.npz", image=images(5))
    assert [f.count for f in feeds(f"{path}[0:4]", inputs=[pair])] == [2, 2]
    assert "does not divide 5" in error(path, inputs=[pair])


def test_ranges_keep_the_file_s_numbering(tmp_path):
    path = save(tmp_path / "d.npz", image=images(9), label=np.arange(9))
    found = feeds(f"{path}[2:5]", batch=2, label_key="label")
    assert [f.start for f in found] == [2, 4] and found[1].extras["label"].tolist() == [4]
    assert feeds(f"{path}[-2:]")[0].inputs["image"][0, 0] == 21
    assert "no samples in that range (there are 9)" in error(f"{path}[9:]")
    assert "written [a:b]" in error(f"{path}[3]")


def test_a_folder_of_feeds_comes_in_natural_order(tmp_path):
    for i in (1, 2, 10):
        save(tmp_path / f"s{i}.npz", image=np.full((i, 3), i, np.float32))
    assert [f.inputs["image"].shape[0] for f in feeds(tmp_path)] == [1, 2, 10]
    assert [f.start for f in feeds(f"{tmp_path}[1:]")] == [1, 2]


def test_onnx_test_data_sets(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    from onnx import numpy_helper

    for i in (0, 1):
        folder = tmp_path / f"test_data_set_{i}"
        folder.mkdir()
        named = "image" if i else ""  # without a name the number counts
        (folder / "input_0.pb").write_bytes(numpy_helper.from_array(images(1) + i, named).SerializeToString())
        (folder / "output_0.pb").write_bytes(numpy_helper.from_array(np.zeros((1, 2), np.float32), "logits").SerializeToString())
    found = feeds(tmp_path)
    assert [f.inputs["image"][0, 0] for f in found] == [0, 1] and "expected:logits" in found[0].extras
    assert len(feeds(tmp_path / "test_data_set_1")) == 1
    (tmp_path / "test_data_set_1" / "input_0.pb").write_bytes(b"\xff\xff\xff")
    assert "input_0.pb is not a readable ONNX tensor" in error(tmp_path)


FUNCTIONS = """
import numpy as np
def samples():
    for i in range(4):
        yield {"image": np.full((1, 3), i, np.float32), "label": i}
class Reader:
    def __init__(self): self.left = 3
    def get_next(self):
        self.left -= 1
        return {"image": np.zeros((1, 3), np.float32)} if self.left >= 0 else None
def broken(): raise RuntimeError("no such camera")
def wrong(): return [1, 2]
def none(): return []
"""


def test_functions_and_calibration_readers(tmp_path):
    path = tmp_path / "source.py"
    path.write_text(FUNCTIONS)
    assert [f.inputs["image"][0, 0] for f in feeds(f"{path}:samples")] == [0, 1, 2, 3]
    assert [f.start for f in feeds(f"{path}:samples[1:3]")] == [1, 2]
    assert len(feeds(f"{path}:Reader")) == 3
    assert "broken raised RuntimeError: no such camera" in error(f"{path}:broken")
    assert "sample 0 is int, not a dict" in error(f"{path}:wrong")
    assert "has no samples" in error(f"{path}:none")
    assert "did you mean 'samples'" in error(f"{path}:sample")
    assert "name the function" in error(path)
    path.write_text("def samples(:")
    assert "cannot be imported: SyntaxError" in error(f"{path}:samples")


@pytest.mark.parametrize("content, expected", [
    (b"", "is empty"), (b"\x00" * 100, "not"), (b"PK\x03\x04 and then nothing", "not a readable .npz"), (b"random bytes" * 50, "not"),
])
def test_files_that_are_no_npz(tmp_path, content, expected):
    path = tmp_path / "d.npz"
    path.write_bytes(content)
    assert expected in error(path)


def test_a_truncated_npz_at_any_length(tmp_path):
    whole = save(tmp_path / "whole.npz", image=images(50), label=np.arange(50)).read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(1, len(whole), 61):
        path.write_bytes(whole[:length])
        assert "cut.npz" in error(path)


def test_damaged_bytes_are_found(tmp_path):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, image=np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)
    assert "d.npz" in error(path)


def test_object_arrays_are_refused(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, image=np.array([{}, {}], object))
    assert "pickles are refused" in error(path)


def test_a_single_npy_has_no_names(tmp_path):
    np.save(tmp_path / "d.npy", images(3))
    assert "numpy.savez" in error(tmp_path / "d.npy")


def test_names_shapes_and_dtypes(tmp_path):
    assert "no array for input 'image' (did you mean 'imgae'?)" in error(save(tmp_path / "a.npz", imgae=images(3)))
    assert "float64, the model wants float32" in error(save(tmp_path / "b.npz", image=images(3).astype(np.float64)))
    assert "shape [1, 4]" in error(save(tmp_path / "c.npz", image=np.zeros((3, 4), np.float32)))
    assert "the model wants image: f32 [N, 3]" in error(save(tmp_path / "d.npz", image=np.zeros((3, 4), np.float32)))
    assert "no sample axis" in error(save(tmp_path / "e.npz", image=np.float32(1)))
    assert "no such file (did you mean 'a.npz'?)" in error(tmp_path / "aa.npz")
    assert "holds no arrays" in error(save(tmp_path / "f.npz"))
    assert "must be an .npz" in error(save(tmp_path / "g.npz", image=images(1)).rename(tmp_path / "g.csv"))


def test_labels(tmp_path):
    path = save(tmp_path / "d.npz", image=images(3), label=np.arange(2))
    assert "'label' has 2 entries for 3 samples" in error(path, label_key="label")
    assert "cannot be the label too" in error(path, label_key="image")


def test_nan_is_found_with_its_sample(tmp_path):
    data = images(9)
    data[6, 1] = np.nan
    path = save(tmp_path / "d.npz", image=data)
    assert "'image' holds NaN in sample 6" in error(path)
    assert "'image' holds NaN in sample 6" in error(f"{path}[5:8]")
    assert len(feeds(f"{path}[:6]", batch=6)) == 1
    folder = tmp_path / "folder"
    folder.mkdir()
    save(folder / "s1.npz", image=data)
    assert "s1.npz: 'image' holds NaN" in error(folder)


def test_python_sources():
    assert len(feeds({"image": images(3)}, batch=1)) == 3
    assert len(feeds([{"image": images(2)}, {"image": images(1)}])) == 2
    assert len(feeds(lambda: iter([{"image": images(2)}]))) == 1
    assert "not int" in error(3)


def test_tokens_make_the_other_inputs():
    inputs = [IDS, Value("attention_mask", "i64", (1, -1), ("", "seq")), Value("position_ids", "i64", (1, -1), ("", "seq")),
              Value("past_key_values.0.key", "f32", (1, 2, -1, 4), ("", "", "past", ""))]
    feeder = Feeder(open_data({"tokens": np.array([[5, 6, 7], [8, 9, 1]])}), inputs, [])
    first, second = list(feeder)
    assert first.inputs["input_ids"].tolist() == [[5, 6, 7]] and second.tokens.tolist() == [[8, 9, 1]]
    assert first.inputs["attention_mask"].tolist() == [[1, 1, 1]] and first.inputs["position_ids"].tolist() == [[0, 1, 2]]
    assert first.inputs["past_key_values.0.key"].shape == (1, 2, 0, 4)
    assert feeder.notes == ["past_key_values.0.key: empty past"]


def test_tokens_that_fit_no_input():
    two = [Value("a", "i64", (1, -1), ("", "s")), Value("b", "i64", (1, -1), ("", "s"))]
    assert "input_ids or a single integer input" in error({"tokens": np.zeros((1, 4), np.int64)}, inputs=two)
    assert "must be integers" in error({"tokens": np.zeros((1, 4))}, inputs=[IDS])
    odd = [IDS, Value("pixels", "f32", (1, 3), ("", ""))]
    assert "do not know what to feed input pixels" in error({"tokens": np.zeros((1, 4), np.int64)}, inputs=odd)


@pytest.mark.parametrize("length, stride, total", [(0, 0, 10), (4, 4, 10), (4, 2, 11), (4, 1, 9), (8, 3, 8), (4, 3, 2)])
def test_windows_score_each_position_once(length, stride, total):
    seen = [begin + p for begin, end, first in Window(length, stride).spans(total) for p in range(first, end - begin)]
    if length == stride:  # disjoint windows cannot score their own first position
        assert seen == [p for p in range(1, total) if not length or p % length]
    else:
        assert seen == list(range(1, total))
