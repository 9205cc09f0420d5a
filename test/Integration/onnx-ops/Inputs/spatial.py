"""Resizing, pools, transposed and deformable convolutions, sampling at computed places, boxes."""
import numpy as np
from harness import Case, check, const, dyn, var

rng = np.random.default_rng(5)
f = lambda *shape: rng.standard_normal(shape).astype(np.float32)
h = lambda *shape: f(*shape).astype(np.float16)
ints = lambda *values: np.array(values, np.int64)
x = f(1, 2, 6, 7)
cases = []

# Resize: sizes and scales that are constants, and that only the run knows.
for mode in ("nearest", "linear", "cubic"):
    for coordinates in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"):
        for given in (const, var):
            cases.append(Case("Resize", var(x), None, None, given(ints(1, 2, 9, 5)), mode=mode,
                              coordinate_transformation_mode=coordinates, tolerance=1e-4))
        cases.append(Case("Resize", dyn(x), None, const(np.float32([1, 1, 2, 1.5])), mode=mode,
                          coordinate_transformation_mode="asymmetric", tolerance=1e-4))
    cases.append(Case("Resize", dyn(x), None, var(np.float32([1, 1, 2, 0.5])), mode=mode, tolerance=1e-4))
for mode in ("linear", "cubic"):
    cases += [Case("Resize", var(x), None, None, const(ints(1, 2, 3, 4)), mode=mode, antialias=1, tolerance=1e-4),
              Case("Resize", dyn(x), None, None, var(ints(1, 2, 3, 4)), mode=mode, antialias=1, tolerance=1e-4)]
cases += [
    Case("Resize", var(x), None, None, const(ints(1, 2, 4, 9)), mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5, tolerance=1e-4),
    Case("Resize", var(x), const(np.float32([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.2])), None, const(ints(1, 2, 4, 5)), mode="linear",
         coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=3.0, tolerance=1e-4),
    Case("Resize", dyn(x), None, None, var(ints(9, 9)), axes=[2, 3], keep_aspect_ratio_policy="not_larger"),
    Case("Resize", var(h(1, 2, 5, 4)), None, None, const(ints(1, 2, 7, 7)), mode="linear"),
    Case("Resize", var(f(1, 2, 3, 4, 5)), None, None, const(ints(1, 2, 5, 5, 5)), mode="linear", tolerance=1e-4),
]

# Pools.
for window in (dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), dict(kernel_shape=[2, 3], dilations=[2, 1]),
               dict(kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1), dict(kernel_shape=[2, 2], auto_pad="SAME_UPPER")):
    for given in (var, dyn):
        cases += [Case("MaxPool", given(f(2, 3, 8, 9)), outputs=2, **window),
                  Case("AveragePool", given(f(2, 3, 8, 9)), count_include_pad=1, **window),
                  Case("LpPool", given(f(2, 3, 8, 9)), p=3, tolerance=1e-4, **window)]
cases += [
    Case("MaxPool", var(f(2, 3, 6, 7)), outputs=2, kernel_shape=[3, 2], strides=[2, 2], storage_order=1),
    Case("MaxPool", var(f(1, 2, 5, 6, 7)), outputs=2, kernel_shape=[2, 2, 2]),
    Case("AveragePool", var(h(1, 2, 9, 9)), kernel_shape=[4, 4]),
    Case("GlobalLpPool", var(f(2, 3, 4, 5)), p=2, tolerance=1e-4), Case("GlobalLpPool", dyn(f(2, 3, 4, 5)), p=1, tolerance=1e-4),
    Case("MaxUnpool", var(f(1, 1, 2, 2)), var(ints(5, 7, 13, 15).reshape(1, 1, 2, 2)), kernel_shape=[2, 2], strides=[2, 2]),
    Case("LRN", var(f(2, 5, 3, 3)), size=3), Case("LRN", dyn(f(2, 5, 3, 3)), size=5, alpha=0.01, beta=0.5, bias=2.0),
]

# Transposed convolutions.
for given in (var, dyn):
    cases += [
        Case("ConvTranspose", given(f(2, 3, 4, 5)), given(f(3, 2, 3, 2)), given(f(2)), strides=[2, 3], pads=[1, 0, 0, 1], tolerance=1e-4),
        Case("ConvTranspose", given(f(1, 4, 4, 4)), given(f(4, 3, 3, 3)), group=2, dilations=[2, 1], output_padding=[0, 1],
             strides=[2, 2], tolerance=1e-4),
        Case("ConvTranspose", given(f(1, 3, 5)), given(f(3, 2, 4)), strides=[2], tolerance=1e-4),
        Case("ConvTranspose", given(f(1, 2, 3, 4, 3)), given(f(2, 2, 2, 2, 2)), strides=[2, 1, 2], tolerance=1e-4),
        Case("Conv", given(f(1, 4, 6, 6)), given(f(6, 2, 3, 3)), group=2, tolerance=1e-4),
    ]
cases += [Case("ConvTranspose", dyn(f(1, 3, 4, 5), "n = h w"), const(f(3, 2, 3, 3)), strides=[2, 2], auto_pad="SAME_UPPER", tolerance=1e-4),
          Case("DeformConv", dyn(f(1, 4, 6, 6)), const(f(2, 4, 3, 3)), dyn(f(1, 18, 4, 4)), const(f(2)), dyn(f(1, 9, 4, 4)), tolerance=1e-4)]

# Sampling.
for mode in ("nearest", "linear", "cubic"):
    for padding in ("zeros", "border", "reflection"):
        for corners in (0, 1):
            given = dyn if corners else var
            cases.append(Case("GridSample", given(f(2, 2, 4, 5)), given(np.clip(f(2, 3, 3, 2), -1.4, 1.4), "a b c =") if corners
                              else given(np.clip(f(2, 3, 3, 2), -1.4, 1.4)), mode=mode, padding_mode=padding, align_corners=corners,
                              tolerance=1e-4))
cases += [
    Case("GridSample", var(f(1, 2, 3, 4, 5)), var(f(1, 2, 2, 2, 3) * 0.7), mode="linear", tolerance=1e-4),
    Case("AffineGrid", var(f(2, 2, 3)), const(ints(2, 3, 4, 5))), Case("AffineGrid", dyn(f(2, 2, 3)), var(ints(2, 3, 4, 5)), align_corners=1),
    Case("AffineGrid", var(f(1, 3, 4)), const(ints(1, 3, 4, 5, 2))),
    Case("Col2Im", dyn(f(1, 12, 12), "n = l"), const(ints(4, 5)), const(ints(2, 2))),
    Case("Col2Im", var(f(1, 8, 9)), const(ints(5, 5)), const(ints(2, 2)), strides=[2, 2], pads=[0, 0, 1, 1]),
]
rois = np.float32([[0, 0, 5, 4], [1.3, 0.5, 4.2, 5.9], [-1, 2, 8, 3]])
for mode in ("avg", "max"):
    for given in (var, dyn):
        cases.append(Case("RoiAlign", given(f(2, 3, 6, 7)), given(rois), given(ints(0, 1, 0)), mode=mode, output_height=2, output_width=3,
                          sampling_ratio=2, spatial_scale=0.9, tolerance=1e-4))
cases.append(Case("RoiAlign", var(f(2, 3, 6, 7)), var(rois), var(ints(0, 1, 1)), output_height=3, output_width=2,
                  coordinate_transformation_mode="output_half_pixel", tolerance=1e-4))
boxes = np.abs(rng.random((2, 12, 4)).astype(np.float32))
boxes[..., 2:] += boxes[..., :2]
scores = rng.random((2, 3, 12)).astype(np.float32)
for given in (var, dyn):
    cases += [Case("NonMaxSuppression", given(boxes), given(scores), const(ints(4)), const(np.float32([0.3])), const(np.float32([0.2]))),
              Case("NonMaxSuppression", given(boxes), given(scores), var(ints(20)), const(np.float32([0.5])), center_point_box=1)]
check("spatial", cases)
