"""How good forecasts are: rolling backtests that cannot leak, rivals, metrics, calibration, reports."""
