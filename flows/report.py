"""The round's report in Prefect's pages: a table of clients, the gallery, and where MLflow keeps the rest."""

import base64
import io

from PIL import Image
from prefect.artifacts import create_image_artifact, create_table_artifact

from data.home import Home
from data.records import RoundRecord


def report(home: Home, name: str, record: RoundRecord) -> None:
    """Leave both as artifacts of the flow run at work; nothing in them comes from a client's words or pictures."""
    rows = []
    for client, c in sorted(record.clients.items()):
        loss = c.test or {}
        rows.append(
            {
                "client": client,
                "cluster": c.cluster,
                "pictures": c.samples,
                **{what: loss.get(what) for what in ("base", "cluster", "other_cluster", "personal")},
                "left out": c.failed or "",
            }
        )
    text = f"{name}, round {record.round}: {len(record.clusters)} clusters, {record.bytes_up:,} bytes up, {record.bytes_down:,} down"
    create_table_artifact(table=rows, key=f"{name}-round-{record.round}", description=text)
    create_image_artifact(image_url=_inline(home, record), key=f"{name}-gallery-{record.round}", description=f"Gallery. {text}")


def _inline(home: Home, record: RoundRecord) -> str:
    """The gallery at half size as a data URL: Prefect's pages cannot open files."""
    picture = Image.open(io.BytesIO(home.server().get(record.gallery))).convert("RGB").reduce(2)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
