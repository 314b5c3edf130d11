"""The docs' pictures of Prefect's and MLflow's pages: `make screenshots`, while `fedcore up` runs and a run is finished in it."""

import argparse
import shutil
from pathlib import Path

import httpx
from mlflow import MlflowClient
from playwright.sync_api import sync_playwright

SETTLE = 6000  # milliseconds that a page may take to fetch and draw


def flow_run(api: str, name: str) -> str:
    """The id of the last completed flow run of that name."""
    wanted = {"flow_runs": {"name": {"any_": [name]}, "state": {"type": {"any_": ["COMPLETED"]}}}, "sort": "START_TIME_DESC", "limit": 1}
    found = httpx.post(f"{api}/flow_runs/filter", json=wanted).raise_for_status().json()
    if not found:
        raise SystemExit(f"error: {api} knows no completed flow run '{name}'; run the federation there first")
    return str(found[0]["id"])


def pages(prefect: str, mlflow: str, name: str) -> dict[str, str]:
    """The address of each picture's page, by the picture's name."""
    client = MlflowClient(mlflow)
    experiment = client.get_experiment_by_name("fedcore")
    runs = client.search_runs([experiment.experiment_id], f"tags.`fedcore.name` = '{name}'") if experiment else []
    parent = next((r.info.run_id for r in runs if r.data.tags["fedcore.round"] == "all"), None)
    if experiment is None or parent is None:
        raise SystemExit(f"error: {mlflow} has no run '{name}'")
    rounds = max(int(r.data.tags["fedcore.round"]) for r in runs if r.data.tags["fedcore.round"] != "all")
    last = flow_run(f"{prefect}/api", f"{name} round {rounds}")
    inside = f"{mlflow}/#/experiments/{experiment.experiment_id}/runs/{parent}"
    return {
        "prefect-round": f"{prefect}/runs/flow-run/{last}",
        "prefect-report": f"{prefect}/artifacts/key/{name}-round-{rounds}",
        "mlflow-runs": f"{mlflow}/#/experiments/{experiment.experiment_id}/runs",
        "mlflow-curves": f"{inside}/model-metrics",
        "mlflow-versions": f"{mlflow}/#/models/{name}.cluster-0",
    }


def main() -> None:
    """Take them all."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--name", default="demo", help="the run to show")
    options.add_argument("--prefect", default="http://127.0.0.1:4200")
    options.add_argument("--mlflow", default="http://127.0.0.1:5000")
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = options.parse_args()
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for picture, address in pages(given.prefect, given.mlflow, given.name).items():
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(address, timeout=60_000)
            page.wait_for_timeout(SETTLE)
            page.screenshot(path=given.out / f"{picture}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
