"""The code behind the closed table of trainers (`broker.jobs.trainers`): a function for each name.

    trained     what a trainer is given, and what it gives
    survey      the first passes over the rows: how many, how far, which classes, their moments
    linear      logistic and linear regression; `newton` the steps of the first
    means       k-means
    network     the perceptron
    dense       a network of PyTorch
    trees       random forest and gradient boosting; `grown` makes scikit-learn's trees ours
    leaves      rows behind leaves, of each owner: what tree trainers give out stands on cohorts
    xgboosted   gradient boosting by XGBoost
    private     logistic regression with noise
    tell        how good a model is, by rows that it did not see
    statistics  counts, means and deviations; `noised` the same with noise, `grouped` by group
    table       the table itself

Nothing is pickled: models are ONNX, written by code of ours, with numbers alone in them.
"""
