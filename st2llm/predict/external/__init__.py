"""External models as predictors: pretrained time-series models, regressors, statsmodels, tables of predictions."""
