# SPDX-License-Identifier: Apache-2.0
"""numpy's side of the test "npz: numpy reads what is written here": checks or writes the test's arrays."""

import sys

import numpy as np

SAMPLES = {
    "f32": np.asfortranarray(np.array([[0, -1, 2.5], [1e30, 4, 5]], np.float32)),
    "/layer.0/Conv_output_0": np.array([-1, 0, 2**63 - 1], np.int64),
    "scalar": np.array(0.1, np.float64),
    "empty": np.zeros((0, 5), np.uint8),
    "größe": np.array([[[7, 65535]]], np.uint16),
    "bool": np.array([False, True]),
}


def main() -> int:
    mode, path = sys.argv[1:]
    if mode == "write":
        np.savez(path, **SAMPLES)
    elif mode == "write-compressed":
        np.savez_compressed(path, **SAMPLES)
    else:
        found = np.load(path)
        assert sorted(found.files) == sorted(SAMPLES), found.files
        for name, expected in SAMPLES.items():
            assert found[name].dtype == expected.dtype, name
            assert found[name].shape == expected.shape, name
            assert np.array_equal(found[name], expected), name
    return 0


if __name__ == "__main__":
    sys.exit(main())
