"""The doctor's checks of FleetCast's components against the data contract: simulator, dataset, bundle, service."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.compute as pc

import fleetcast
from fleetcast.contract.compatibility import require_fit
from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.rows import states_of_rows
from fleetcast.contract.schema import sample_schema
from fleetcast.contract.validate import validate
from fleetcast.contract.vocabulary import VERSION, state_names
from fleetcast.dataset.check import check_dataset as examine
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import FleetCastError
from fleetcast.operate import locks
from fleetcast.operate.home import SERVICE_LOCK, files_below, service_home
from fleetcast.operate.service_client import KEY_VARIABLE, api_key, ask, service_address
from fleetcast.operate.verdict import CheckResult, fail, ok, skip, warn
from fleetcast.settings import Settings
from fleetcast.simulate.simulator import simulate
from fleetcast.simulate.spec import FleetSpec

SAMPLE_FLEET = FleetSpec(servers=8, hours=26, seed=1)
SERVICE_PATHS = ("/v1/samples", "/v1/fleet", "/v1/servers/{name}/forecast", "/v1/alerts", "/v1/remediation/plans")
_RENEW = "reinstall FleetCast: `make setup`, or `pip install --force-reinstall .`"


def check_simulator() -> CheckResult:
    """A small simulated fleet is what the contract says, and simulating one server alone gives the same rows."""
    shard = simulate(SAMPLE_FLEET)
    table = shard.table
    found = f"{table.num_rows} rows of {SAMPLE_FLEET.servers} simulated servers"
    if table.schema != sample_schema(METRIC_NAMES):
        return fail("simulator", f"{found} have other columns than contract {VERSION}", _RENEW)
    quarantine = validate(table, "simulated").quarantine
    if quarantine.num_rows:
        first = quarantine.slice(0, 1).to_pylist()[0]
        return fail("simulator", f"{found}: {quarantine.num_rows} break the contract, first {first}", _RENEW)
    states = state_names(states_of_rows(table, shard.maintenance, SAMPLE_FLEET.timezone))
    if table["state"].to_pylist() != states.tolist():
        return fail("simulator", f"{found}: states are not those that the contract's function gives", _RENEW)
    alone = simulate(SAMPLE_FLEET, [SAMPLE_FLEET.servers - 1]).table
    if not alone.equals(table.filter(pc.equal(table["server"], alone["server"][0]))):
        return fail("simulator", "a server's values depend on the others that are simulated with it", _RENEW)
    return ok("simulator", f"{found} fit contract {VERSION}")


def check_dataset(location: str | os.PathLike[str]) -> CheckResult:
    """A dataset's digests, rows, states and words against the contract."""
    name = f"dataset {location}"
    try:
        report = examine(Dataset.open(location))
    except FleetCastError as error:
        return fail(name, str(error), "make it again with `fleetcast simulate` or `fleetcast import`")
    found = f"{report.rows} rows of {report.servers} servers, contract {report.contract_version}"
    if not report.ok:
        wrong = [
            *report.problems[:3],
            *([f"{report.quarantined_rows} rows break a rule"] * bool(report.quarantined_rows)),
        ]
        return fail(name, f"{found}: {'; '.join(wrong)}", f"see all with `fleetcast validate {location}`; import again")
    return ok(name, found)


def check_bundle(path: str | os.PathLike[str], dataset: str | os.PathLike[str] | None = None) -> CheckResult:
    """A bundle loads, its weights are whole, it fits the contract and, when one is given, the dataset."""
    from fleetcast.forecast.forecaster import Forecaster  # noqa: PLC0415 (loads torch)

    name = f"bundle {path}"
    try:
        manifest = Forecaster.load(path).manifest
        if dataset is not None:
            require_fit(manifest.side(name), Dataset.open(dataset).manifest.side(f"dataset {dataset}"))
    except FleetCastError as error:
        return fail(name, str(error), "train a new model with `fleetcast train`, or serve the data it was trained for")
    targets = ", ".join(manifest.targets)
    return ok(name, f"run {manifest.run}, contract {manifest.contract_version}, forecasts {targets}")


def check_service(settings: Settings) -> CheckResult:
    """A running service offers the API of this version, under this contract, and is ready."""
    if locks.holder(service_home(settings.home.resolve()) / SERVICE_LOCK) is None:
        return skip("service", f"none runs with home {settings.home}", "start one with `fleetcast serve`")
    address = service_address(settings)
    page = ask(address, "/openapi.json", certificate=settings.service.tls_certificate)
    restart = "stop the service (Ctrl-C) and start it again"
    if page.code != 200 or not isinstance(page.body, dict):
        answered = page.error or f"/openapi.json answered {page.code}"
        return fail("service", f"{address}: {answered}", f"wait until it has started, or {restart}")
    missing = [path for path in SERVICE_PATHS if path not in page.body.get("paths", {})]
    if missing:
        return fail("service", f"{address} does not offer {', '.join(missing)}", restart)
    return _check_service_status(address, restart, settings.service.tls_certificate)


def _check_service_status(address: str, restart: str, certificate: Path | None) -> CheckResult:
    key = api_key()
    if key is None:
        advice = f"set {KEY_VARIABLE} to a key with the scope `read`"
        return warn("service", f"{address} offers the API; its contract version was not asked for", advice)
    answer = ask(address, "/v1/status", key, certificate)
    if answer.code != 200 or not isinstance(answer.body, dict):
        return fail("service", f"/v1/status: {answer.error or answer.code}", f"check {KEY_VARIABLE}, or {restart}")
    theirs = (answer.body.get("version"), answer.body.get("contract_version"))
    if theirs != (fleetcast.__version__, VERSION):
        ours = f"FleetCast {fleetcast.__version__}, contract {VERSION}"
        return fail("service", f"runs FleetCast {theirs[0]}, contract {theirs[1]}; this is {ours}", restart)
    if not answer.body.get("ready"):
        reasons = "; ".join(map(str, answer.body.get("reasons", []))) or "no reason given"
        return warn("service", f"{address} is not ready: {reasons}", "see `fleetcast status`")
    return ok("service", f"{address} is ready, FleetCast {theirs[0]}, contract {theirs[1]}")


def datasets_and_bundles(home: Path) -> tuple[list[Path], list[Path]]:
    """The datasets and bundles that lie in FleetCast's home."""
    folders = [path.parent for path in files_below(home) if path.name == "manifest.json"]
    bundles = [folder for folder in folders if (folder / "model.safetensors").exists()]
    return [folder for folder in folders if folder not in bundles], bundles
