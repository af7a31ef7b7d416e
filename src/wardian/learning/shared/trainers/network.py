"""A perceptron with one hidden layer, by scikit-learn, as ONNX that workers serve."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardian.learning.layers import classifier
from wardian.learning.shared.extra import extra
from wardian.learning.shared.trainers.linear import fitting, folded, scale_of, whole_layers
from wardian.learning.shared.trainers.survey import surveyed
from wardian.learning.shared.trainers.tell import held_out
from wardian.learning.shared.trainers.trained import Predict, Task, Trained


def perceptron(task: Task) -> Trained:
    """Return a model of two classes or more; errors as `linear.logistic_regression`."""
    features = task.joined.features()
    surveyed(task, classes=True)
    classes, places = task.classes()
    scale = scale_of(features)
    fitted = _fitted(task, (features - scale[0]) / scale[1], places)
    (first, last), (bias, last_bias) = fitted.coefs_, fitted.intercepts_
    layers = [folded(first, bias, scale), (last, last_bias)]
    model = classifier(whole_layers(layers, task.rows.owners), labels=classes.tolist())
    if not task.measured:
        return Trained(model=model)

    def fit(kept: NDArray[np.bool_]) -> Predict:
        some = features[kept]
        mean, deviation = scale_of(some)
        found = _fitted(task, (some - mean) / deviation, places[kept])
        return lambda tried: np.asarray(found.predict((tried - mean) / deviation))

    return Trained(model=model, metrics=held_out(task, features, places).accuracy(fit))


def _fitted(task: Task, scaled: NDArray[np.float64], places: NDArray[Any]) -> Any:
    network = extra("sklearn.neural_network").MLPClassifier(
        hidden_layer_sizes=(task.whole("hidden"),),
        activation="relu",
        solver="adam",
        alpha=0.0,
        batch_size=min(task.whole("batch"), len(places)),
        learning_rate_init=task.number("learning_rate"),
        max_iter=task.whole("epochs"),
        tol=0.0,
        n_iter_no_change=task.whole("epochs") + 1,
        random_state=task.seed,
    )
    return fitting(network, scaled, places)
