"""MLPClassifier and MLPRegressor: scikit-learn's estimators of the same names, trained by fastnn."""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastnn.MLPClassifier and fastnn.MLPRegressor need scikit-learn: pip install 'fastnn-numba[sklearn]'"
    ) from error

from fastnn.sklearn.classifier import MLPClassifier
from fastnn.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
