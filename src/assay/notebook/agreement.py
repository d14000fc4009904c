"""Which noisy labels to believe: those that a prediction agrees with, the notebook's filter."""

import numpy as np

from assay.types import UNKNOWN, Labels, same_length


def agreed_labels(noisy: Labels, trusted: Labels, predicted: Labels) -> Labels:
    """The trusted label where there is one, the given one where the prediction agrees, else UNKNOWN.

    The prediction should come from something that learned from trusted labels alone: what learned a
    noisy label agrees with it too easily.

    Parameters
    ----------
    noisy : the noisy label of each image; UNKNOWN where there is none
    trusted : the trusted label; UNKNOWN for most
    predicted : the class that each image was taken for
    """
    same_length(noisy=noisy, trusted=trusted, predicted=predicted)
    believed: Labels = np.where(noisy == predicted, noisy, UNKNOWN)
    labels: Labels = np.where(trusted != UNKNOWN, trusted, believed)
    return labels
