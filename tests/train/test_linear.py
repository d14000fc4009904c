import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay.errors import LabelError
from assay.train.linear import fit_logistic


@pytest.mark.parametrize("present", [range(10), (3, 8), (0, 5, 9)])
def test_it_is_scikit_learns_logistic_regression(present):
    """Two classes, many, or some of ten: the same probabilities, and nothing for absent classes."""
    X, labels = load_digits(return_X_y=True)
    rows = np.isin(labels, list(present))
    X, labels = X[rows][:400], labels[rows][:400].astype(np.int64)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(X, labels)
    found = fit_logistic(X, labels, 10).probabilities(X)
    np.testing.assert_allclose(found[:, list(present)], theirs.predict_proba(X), atol=1e-3)
    assert found[:, np.setdiff1d(np.arange(10), list(present))].max(initial=0) < 1e-9


def test_one_class_is_always_predicted_and_none_is_refused():
    """Labels that are all alike have one answer; without a label there is nothing to fit to."""
    found = fit_logistic(np.random.default_rng(0).random((5, 2)), np.ones(5, int), 3)
    assert (found.probabilities(np.zeros((4, 2))).argmax(axis=1) == 1).all()
    with pytest.raises(LabelError, match=r"^expected labels to fit to, got none$"):
        fit_logistic(np.zeros((0, 2)), np.zeros(0, int), 3)
