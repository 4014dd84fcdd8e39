"""Read a workbook: what its cells hold, and how they are shown."""

import io
import re
import zipfile
from dataclasses import dataclass
from xml.etree import ElementTree as ET

NAMESPACE = {"x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}


def _parsed(part: bytes) -> ET.Element:
    return ET.fromstring(part)  # noqa: S314 - the service has written it


@dataclass(frozen=True)
class Cell:
    """A cell: its type ``n`` (number), ``b`` (boolean) or ``inlineStr``, its content, and its number format."""

    type: str
    content: str
    shown_as: str


class Spreadsheet:
    """A workbook. ``sheets`` has the rows of each sheet by its name, a dict of cells by column."""

    def __init__(self, body: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            assert archive.testzip() is None
            parts = {name: archive.read(name) for name in archive.namelist()}
        styles = _parsed(parts["xl/styles.xml"])
        # The formats that need no definition.
        formats = {"0": "General", "49": "@", "3": "#,##0", "4": "#,##0.00"}
        formats |= {
            found.get("numFmtId"): found.get("formatCode") for found in styles.iterfind(".//x:numFmt", NAMESPACE)
        }
        self._formats = [formats[xf.get("numFmtId")] for xf in styles.iterfind("x:cellXfs/x:xf", NAMESPACE)]
        book = _parsed(parts["xl/workbook.xml"])
        self.names = [sheet.get("name") for sheet in book.iterfind(".//x:sheet", NAMESPACE)]
        self.xml = {
            name: _parsed(parts[f"xl/worksheets/sheet{number}.xml"]) for number, name in enumerate(self.names, 1)
        }
        self.sheets = {
            name: [self._row(row) for row in xml.iterfind("x:sheetData/x:row", NAMESPACE)]
            for name, xml in self.xml.items()
        }

    def _row(self, row: ET.Element) -> dict[str, Cell]:
        return {re.match("[A-Z]+", cell.get("r"))[0]: self._cell(cell) for cell in row}

    def _cell(self, cell: ET.Element) -> Cell:
        text = "".join(part.text or "" for part in cell.iter() if part.tag.endswith(("}t", "}v")))
        # The escape of characters that XML cannot hold.
        content = re.sub("_x([0-9A-F]{4})_", lambda match: chr(int(match[1], 16)), text)
        return Cell(cell.get("t", "n"), content, self._formats[int(cell.get("s", "0"))])

    def rows(self) -> list[list[str | None]]:
        """Return the content of the first sheet, None where a cell is empty; the first row is the head."""
        head, *rest = self.sheets[self.names[0]]
        return [[row[column].content if column in row else None for column in head] for row in (head, *rest)]

    def about(self) -> dict[str, str]:
        """Return the second sheet as pairs."""
        return {row["A"].content: row["B"].content for row in self.sheets["About"]}
