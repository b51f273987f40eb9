"""The types of fields that schemas of several features share, and parts of the JSON Schemas of forms."""

from typing import Annotated, Any

from msgspec import Meta

RowId = Annotated[int, Meta(ge=1, le=2**63 - 1, description="Identifies one row, for ever.", examples=[1])]

FormText = Annotated[str, Meta(pattern=r"^[^\x00]*$")]
MAX_PARAMETERS = 100
FEW = {"maxProperties": MAX_PARAMETERS}
# Parameters that an operation doesn't know are texts, too. It stands below `then`, where generators of clients don't
# look: they would make a type of it that has no place for a parameter that may be left out.
TEXTS: dict[str, Any] = {"patternProperties": {"": {"type": "string", "pattern": r"^[^\x00]*$"}}}
