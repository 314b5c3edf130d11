"""The docs' pictures of Prefect's and MLflow's pages: `make screenshots`, while `fedcore up` runs and a run is finished in it."""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

import httpx
from mlflow import MlflowClient
from playwright.sync_api import Page, sync_playwright

from data.home import TRAINING_PAGES

SETTLE = 5000  # milliseconds that a page may take to fetch and draw
WIDTH, HEIGHT = 1400, 900


@dataclass(frozen=True)
class Shot:
    """A page's address, what to press (a CSS selector) and which charts to search for before the picture, and its height in pixels."""

    address: str
    press: str | None = None
    charts: str | None = None
    height: int = HEIGHT


def newest(api: str, what: str, wanted: dict[str, object]) -> str:
    """The id of the newest flow run or artifact that fits."""
    found = httpx.post(f"{api}/{what}/filter", json={what: wanted, "limit": 1}).raise_for_status().json()
    if not found:
        raise SystemExit(f"error: {api} has no {what} with {wanted}; run the federation there first")
    return str(found[0]["id"])


def shots(prefect: str, mlflow: str, name: str) -> dict[str, Shot]:
    """What to take, by the picture's name."""
    client = MlflowClient(mlflow)
    experiment = client.get_experiment_by_name("fedcore")
    runs = client.search_runs([experiment.experiment_id], f"tags.`fedcore.name` = '{name}'") if experiment else []
    run = {r.data.tags["fedcore.round"]: r.info.run_id for r in runs}
    if experiment is None or "all" not in run:
        raise SystemExit(f"error: {mlflow} has no run '{name}'")
    last = len(run) - 1
    flow = newest(f"{prefect}/api", "flow_runs", {"name": {"any_": [f"{name} round {last}"]}, "state": {"type": {"any_": ["COMPLETED"]}}})
    table = newest(f"{prefect}/api", "artifacts", {"key": {"any_": [f"{name}-round-{last}"]}})
    experiments = f"{mlflow}/#/experiments/{experiment.experiment_id}"

    def of(number: str, tab: str) -> str:
        return f"{experiments}/runs/{run[number]}/{tab}?{TRAINING_PAGES}"

    return {
        "prefect-round": Shot(f"{prefect}/runs/flow-run/{flow}", height=520),
        "prefect-report": Shot(f"{prefect}/artifacts/artifact/{table}"),
        "mlflow-runs": Shot(f"{experiments}/runs?{TRAINING_PAGES}", press=".ag-cell button", height=520),
        "mlflow-curves": Shot(of("all", "model-metrics"), charts="loss_personal"),
        "mlflow-training": Shot(of(str(last), "model-metrics"), charts="training"),
        "mlflow-pictures": Shot(of("all", f"artifacts/gallery/round-{last:04d}.png")),
        "mlflow-versions": Shot(f"{mlflow}/#/models/{name}.cluster-0?{TRAINING_PAGES}"),
    }


def take(page: Page, shot: Shot, path: Path) -> None:
    """Open, press, wait, write."""
    page.set_viewport_size({"width": WIDTH, "height": shot.height})
    page.goto(shot.address, timeout=60_000)
    page.wait_for_timeout(SETTLE)
    for selector in ("button[aria-label='Close']", shot.press):  # MLflow opens an assistant beside every page
        if selector and page.locator(selector).count():
            page.locator(selector).first.click()
    if shot.charts:
        page.get_by_placeholder("Search metric charts").fill(shot.charts)
    page.wait_for_timeout(SETTLE)
    page.screenshot(path=path)


def main() -> None:
    """Take them all."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--name", default="demo", help="the run to show")
    options.add_argument("--prefect", default="http://127.0.0.1:4200")
    options.add_argument("--mlflow", default="http://127.0.0.1:5000")
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = options.parse_args()
    with sync_playwright() as browsers:
        page = browsers.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"]).new_page()
        for picture, shot in shots(given.prefect, given.mlflow, given.name).items():
            take(page, shot, given.out / f"{picture}.png")


if __name__ == "__main__":
    main()
