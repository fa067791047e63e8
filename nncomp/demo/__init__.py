"""Demo: a small float CNN for handwritten digits, and the data to calibrate and judge it.

The images are the *Optical Recognition of Handwritten Digits* data set (E. Alpaydin and C. Kaynak, 1998,
UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, licence CC BY 4.0), as scikit-learn
ships it; the pixels are divided by 16. `tests/dev/train_digits.py` makes both files.
"""

from pathlib import Path


def model_path() -> Path:
    """Return the float ONNX model: ``image`` (N, 1, 8, 8) in [0, 1] -> ``logits`` (N, 10)."""
    return Path(__file__).with_name("digits.onnx")


def data_path() -> Path:
    """Return the ``.npz`` with the samples of the model.

    Arrays: ``x_calibration`` (200, 1, 8, 8) float32, which the model was trained on; ``x_evaluation``
    (450, 1, 8, 8) float32 and ``y_evaluation`` (450,) int64, which it has never seen.
    """
    return Path(__file__).with_name("digits.npz")
