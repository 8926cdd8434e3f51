"""The contract as OpenAPI, from which the page's types are made: `python -m llmtrace.console.openapi` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmtrace.files import write_text

FILE = Path(__file__).parent / "openapi.json"


def document() -> str:
    from llmtrace.console import schemas
    from llmtrace.console.service.app import openapi

    found: dict[str, Any] = openapi()
    own = {name: kind for name, kind in vars(schemas).items()
           if isinstance(kind, type) and issubclass(kind, schemas.Schema) and kind is not schemas.Schema}  # fmt: skip
    parts = found["components"]["schemas"]
    for name, kind in own.items():
        said = kind.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        parts.update(said.pop("$defs", {}))
        parts[name] = said
    for unused in ("HTTPValidationError", "ValidationError"):
        parts.pop(unused, None)
    for path in found["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {
                "description": "Refused",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
    found["components"]["schemas"] = dict(sorted(parts.items()))
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    write_text(FILE, document())
