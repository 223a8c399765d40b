"""The network's configuration and the presets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fleetcast.contract.vocabulary import PROFILES, STATES


class NetworkConfig(BaseModel):
    """Sizes and inputs of a Temporal Fusion Transformer, as plain data that a bundle carries."""

    model_config = ConfigDict(frozen=True)

    hidden_size: int = Field(32, ge=4)
    attention_heads: int = Field(4, ge=1)
    hidden_continuous_size: int = Field(16, ge=1)
    lstm_layers: int = Field(1, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    embedding_size: int = Field(5, ge=1, description="dimensions of the profile and state embeddings")
    head: Literal["floor", "softplus"] = Field(
        "floor", description="`floor` corrects untrained quantiles; `softplus` rescales by the encoder window"
    )
    encoder_tokens: int = Field(ge=1)
    decoder_tokens: int = Field(ge=1)
    decoder_pool: int = Field(1, ge=1, description="forecast steps of one decoder token")
    targets: int = Field(ge=1)
    levels: tuple[float, ...]
    anchors: int = Field(0, ge=0, description="known values of each target and step that the `floor` head can repeat")
    static_categoricals: tuple[str, ...]
    static_reals: tuple[str, ...]
    encoder_categoricals: tuple[str, ...]
    encoder_reals: tuple[str, ...]
    decoder_reals: tuple[str, ...]
    reals: tuple[str, ...]
    vocabulary: dict[str, int] = Field(
        default_factory=lambda: {"profile": len(PROFILES) + 1, "state": len(STATES) + 1},
        description="embedding rows, the unknown slot included; frozen by the contract, never read off the data",
    )


class Preset(BaseModel):
    """Defaults of a training: window fields, network fields and the length of the training."""

    model_config = ConfigDict(frozen=True)

    window: dict[str, Any]
    network: dict[str, Any]
    targets: tuple[str, ...] | None = Field(None, description="None is the fleet model's default targets")
    features: tuple[str, ...] | None = Field(None, description="None is every metric of the dataset")
    epochs: int = Field(ge=1)
    samples_per_epoch: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    members: int = Field(1, ge=1, description="networks that are trained one after another, each of this length")
    average_decay: float = Field(0.995, ge=0, lt=1, description="exponential moving average of the weights")


_FLEET_WINDOW = {"fine_steps": 96, "fine_pool": 3, "coarse_pool": 24, "floor_leads": 4}
_REFERENCE_METRICS = ("cpu_utilization", "memory_used", "filesystem_used", "load1_per_core")

PRESETS: dict[str, Preset] = {
    "default": Preset(
        window=_FLEET_WINDOW,
        network={"hidden_size": 32, "attention_heads": 4, "hidden_continuous_size": 8},
        epochs=24,
        samples_per_epoch=8192,
        batch_size=64,
        learning_rate=2e-3,
        members=3,
    ),
    "reference": Preset(
        window={"day_lags": False, "floor_inputs": False, "cyclic_calendar": False},
        network={
            "hidden_size": 32,
            "attention_heads": 8,
            "hidden_continuous_size": 16,
            "dropout": 0.15,
            "head": "softplus",
        },
        targets=("cpu_utilization",),
        features=_REFERENCE_METRICS,
        epochs=10,
        samples_per_epoch=4096,
        batch_size=64,
        learning_rate=3e-3,
    ),
    "tiny": Preset(
        window={"fine_steps": 48, "fine_pool": 12, "coarse_pool": 24, "decoder_pool": 12, "floor_leads": 4},
        network={"hidden_size": 8, "attention_heads": 2, "hidden_continuous_size": 4},
        epochs=2,
        samples_per_epoch=256,
        batch_size=64,
        learning_rate=4e-3,
    ),
}
REFERENCE_PARAMETERS = 87_080
