"""neuralforecast's Temporal Fusion Transformer, sized as nearly as its options allow, in an environment of its own.

`python neuralforecast_tft.py SERVERS` prints JSON: parameters, series a second of `predict` (288 + 96 steps, seven
quantiles, four metrics as past inputs, calendar as future inputs), windows a second of training. One thread.
"""

import json
import logging
import sys
import time
import warnings

import numpy as np
import pandas as pd
import torch
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import MQLoss
from neuralforecast.models import TFT

warnings.filterwarnings("ignore")
for name in ("lightning.pytorch", "pytorch_lightning", "lightning_fabric"):
    logging.getLogger(name).setLevel(logging.ERROR)
torch.set_num_threads(1)
servers, context, horizon, batch, steps = int(sys.argv[1]), 288, 96, 64, 10
known = ["hour", "day_of_week", "month", "is_weekend"]
past = ["memory_used", "filesystem_used", "load1_per_core"]


def frame(length: int, first: int) -> pd.DataFrame:
    """Random series of all servers on the 5-minute grid."""
    times = pd.date_range("2026-01-05", periods=first + length, freq="5min")[first:]
    made = pd.DataFrame({"unique_id": np.repeat(np.arange(servers), length), "ds": np.tile(times, servers)})
    for column in (*known, *past, "y"):
        made[column] = np.random.default_rng(0).random(len(made), dtype=np.float32)
    return made


model = TFT(
    h=horizon,
    input_size=context,
    hidden_size=32,
    n_head=8,
    dropout=0.15,
    futr_exog_list=known,
    hist_exog_list=past,
    loss=MQLoss(quantiles=[0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98]),
    max_steps=steps,
    batch_size=batch,
    windows_batch_size=batch,
    inference_windows_batch_size=batch,
    enable_progress_bar=False,
    enable_model_summary=False,
    logger=False,
    accelerator="cpu",
)
history, future = frame(context + horizon, 0), frame(horizon, context + horizon).drop(columns=["y", *past])
forecaster = NeuralForecast(models=[model], freq="5min")
begun = time.perf_counter()
forecaster.fit(history)
trained = time.perf_counter() - begun
forecaster.predict(futr_df=future)
begun = time.perf_counter()
found = forecaster.predict(futr_df=future)
predicted = time.perf_counter() - begun
assert len(found) == servers * horizon
print(
    json.dumps(
        {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "predict": servers / predicted,
            "train": steps * batch / trained,
        }
    )
)
