"""Generates the experiments of the paper's tables, one file for each cell, from the numbers below.

python -m search_spaces.paper.generate

The parts of experiments are in parts/, written by hand; a file names its parts and the paper's result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
PARTS = FOLDER / "parts"
UP = "../../.."
"""Path from an experiment's folder, `table2/cub_200_2011/n15`, to `search_spaces/paper`."""

DATASETS = {
    "cub_200_2011": "CUB-200-2011",
    "stanford_cars": "Stanford-Cars",
    "fgvc_aircraft": "FGVC-Aircraft",
    "mit_indoor_67": "MIT-Indoor-67",
    "food_101": "Food-101",
    "sst5": "SST-5",
}
SUBSETS = {
    "c25_n400": "C:25%/N:400",
    "c25_n800": "C:25%/N:800",
    "n15": "C:All/N:15%",
    "n30": "C:All/N:30%",
    "n50": "C:All/N:50%",
    "n100": "C:All/N:100%",
}
METHODS = {
    "l2": "L²",
    "mixup": "Mixup",
    "l2_sp": "L²-SP",
    "delta": "DELTA",
    "bss": "BSS",
    "rifle": "RIFLE",
    "co_tuning": "Co-Tuning",
    "reg_sl": "RegSL",
    "smile": "SMILE",
    "smile_without_fc": "SMILE without L_FC",
    "smile_without_fe": "SMILE without L_FE",
    "delta_on_mixup": "DELTA on mixup",
    "rifle_on_mixup": "RIFLE on mixup",
    "bss_on_mixup": "BSS on mixup",
}


@dataclass(frozen=True)
class Table:
    """Table of the paper.

    `cells` is its text: a line of subsets, then lines of a dataset, a method and a number for each subset ("·": no
    cell). `says` is the sentence about a number, with `{}` for each of its parts.
    """

    folder: str
    title: str
    says: str
    cells: str


TABLES = (
    Table(
        "table2",
        "Table 2",
        "The paper: {} % top-1.",
        """
                                     c25_n400    c25_n800         n15        n100
        cub_200_2011   l2          55.59±1.02  74.85±0.12  44.70±0.17  80.64±0.30
        cub_200_2011   mixup       52.39±0.68  73.02±0.11  44.27±0.31  81.86±0.20
        cub_200_2011   l2_sp       54.38±0.32  73.90±0.22  45.30±0.23  81.58±0.10
        cub_200_2011   delta       58.15±0.26  75.84±0.08  47.88±0.15  82.21±0.15
        cub_200_2011   bss         54.99±0.73  74.14±0.34  46.41±0.09  81.10±0.04
        cub_200_2011   rifle       53.68±0.89  73.05±1.09  44.13±0.38  81.94±0.06
        cub_200_2011   co_tuning   57.98±0.08  75.11±0.47  49.98±0.23  82.60±0.03
        cub_200_2011   reg_sl      57.62±0.88  75.51±0.44  46.92±0.28  80.20±0.17
        cub_200_2011   smile       62.13±0.55  77.27±0.35  51.73±0.04  83.62±0.07
        stanford_cars  l2          61.17±0.36  82.73±0.59  43.01±0.53  90.14±0.12
        stanford_cars  mixup       60.25±0.68  83.60±0.02  45.73±0.15  91.51±0.18
        stanford_cars  l2_sp       61.00±0.28  82.05±0.05  44.12±0.33  90.61±0.12
        stanford_cars  delta       62.05±0.13   82.1±0.44  43.27±0.27  90.86±0.08
        stanford_cars  bss         64.97±0.69  83.81±0.39  47.45±0.23  91.14±0.04
        stanford_cars  rifle       62.85±0.22  83.57±0.43  43.61±0.07  91.08±0.12
        stanford_cars  co_tuning   66.05±0.41  81.05±0.39  44.29±0.42  91.19±0.11
        stanford_cars  reg_sl      60.12±0.63  82.91±0.08  42.52±0.37  91.02±0.05
        stanford_cars  smile       65.17±1.11  85.90±0.16  50.93±0.17  92.21±0.05
        fgvc_aircraft  l2          59.63±1.11  79.57±0.18  51.13±0.45  88.27±0.51
        fgvc_aircraft  mixup       65.20±0.80  84.53±0.62  54.42±0.55  89.33±0.17
        fgvc_aircraft  l2_sp       54.70±0.73  76.13±0.82  48.85±0.70  87.97±0.66
        fgvc_aircraft  delta       53.47±0.24  71.73±1.02  51.05±0.38  88.92±0.25
        fgvc_aircraft  bss         61.40±1.13  81.47±0.24  52.61±0.11  88.47±0.16
        fgvc_aircraft  rifle       60.97±0.49  79.87±0.38  52.13±0.31  89.45±0.44
        fgvc_aircraft  co_tuning   62.98±0.72  80.03±0.04  52.05±0.43  88.19±0.33
        fgvc_aircraft  reg_sl      61.87±0.37  79.40±0.92  51.64±0.43  88.87±0.26
        fgvc_aircraft  smile       68.40±0.33  84.57±0.29  60.04±0.33  90.16±0.15
        """,
    ),
    Table(
        "table3",
        "Table 3",
        "The paper: {} % top-1.",
        """
                                          n30         n50        n100
        mit_indoor_67  l2          78.68±0.20  80.80±0.18  82.00±0.21
        mit_indoor_67  mixup       77.44±0.44  80.28±0.28  82.87±0.50
        mit_indoor_67  delta       80.80±0.22  82.80±0.25  83.67±0.18
        mit_indoor_67  bss         78.23±0.50  80.35±0.28  82.15±0.22
        mit_indoor_67  rifle       76.76±0.08  78.71±0.33  81.78±0.07
        mit_indoor_67  smile       82.00±0.14  83.54±0.20  85.37±0.16
        food_101       l2          80.25±0.28  83.43±0.15  86.77±0.03
        food_101       mixup       82.63±0.11  84.93±0.06  87.82±0.06
        food_101       delta       81.38±0.08  84.07±0.06  87.34±0.07
        food_101       bss         81.13±0.04  83.96±0.09  87.33±0.03
        food_101       rifle       81.13±0.04  83.82±0.02  87.29±0.11
        food_101       smile       82.84±0.16  85.25±0.09  88.20±0.10
        """,
    ),
    Table(
        "table4",
        "Table 4",
        "The paper: {} % top-1.",
        """
                                   n100
        sst5           l2          53.2
        sst5           mixup       53.7
        sst5           l2_sp       53.2
        sst5           bss         53.4
        sst5           smile       54.6
        """,
    ),
    Table(
        "table5",
        "Table 5",
        "The paper: {} % top-1.",
        """
                                                 n30        n100
        cub_200_2011   smile                   70.42       83.62
        cub_200_2011   smile_without_fc   69.68±0.12  83.11±0.19
        cub_200_2011   smile_without_fe   68.15±0.27  82.92±0.20
        """,
    ),
    Table(
        "table6",
        "Table 6",
        "The paper's interpolation loss on training/test images: labels {}/{}, features {}/{}.",
        """
                                                          n30                 n100
        cub_200_2011   l2                 1.80/1.92/1.92/1.93  1.85/1.88/1.58/1.63
        cub_200_2011   mixup              1.65/2.00/1.98/2.02                    ·
        cub_200_2011   smile              1.75/1.82/1.48/1.53                    ·
        """,
    ),
    Table(
        "figure3",
        "Figure 3",
        "The figure has bars without numbers, and the text names no dataset; this is the one of Table 5, beside it.",
        """
                                                 n30        n100
        cub_200_2011   delta_on_mixup              ?           ?
        cub_200_2011   rifle_on_mixup              ?           ?
        cub_200_2011   bss_on_mixup                ?           ?
        """,
    ),
)


@dataclass(frozen=True)
class Cell:
    """Cell of a table, an experiment; `number` is the paper's result as printed."""

    table: Table
    dataset: str
    subset: str
    method: str
    number: str

    @property
    def path(self) -> str:
        """Path of its file, relative to this folder."""
        return f"{self.table.folder}/{self.dataset}/{self.subset}/{self.method}.yaml"

    @property
    def text(self) -> str:
        """Content of its file."""
        what = f"{self.table.title}, {DATASETS[self.dataset]}, {SUBSETS[self.subset]}, {METHODS[self.method]}"
        says = self.table.says.format(*self.number.replace("±", " ± ").split("/"))
        return "\n".join(
            [
                f"# python -m tuner.search --space search_spaces/paper/{self.path}",
                "#",
                f"# {what}.",
                f"# {says}",
                "extends:",
                *(f"  - {UP}/parts/{part}.yaml" for part in self.parts),
                f"name: {self.table.folder}-{self.dataset}-{self.subset}-{self.method}",
                "",
            ]
        )

    @property
    def parts(self) -> list[str]:
        """Names of its parts: dataset, subset, method (a version for this dataset, if there is one), maybe mixup."""
        method, _, below = self.method.partition("_on_")
        own = f"methods/{self.dataset}/{method}"
        chosen = own if (PARTS / f"{own}.yaml").exists() else f"methods/{method}"
        return [f"data/{self.dataset}", f"subsets/{self.subset}", chosen, *([f"methods/on_{below}"] if below else [])]


def cells() -> Iterator[Cell]:
    """Yields every cell of every table."""
    for table in TABLES:
        header, *rows = (line.split() for line in table.cells.strip().splitlines())
        for dataset, method, *numbers in rows:
            for subset, number in zip(header, numbers, strict=True):
                if number != "·":
                    yield Cell(table, dataset, subset, method, number)


def written() -> set[str]:
    """Lists the files of experiments in this folder, relative to it."""
    return {file.relative_to(FOLDER).as_posix() for file in FOLDER.rglob("*.yaml") if PARTS not in file.parents}


def main() -> None:
    """Writes all files, and removes those without a cell."""
    texts = {cell.path: cell.text for cell in cells()}
    for path, text in texts.items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_text(text, encoding="utf-8")
    for path in written() - texts.keys():
        (FOLDER / path).unlink()
    print(f"{len(texts)} experiments")


if __name__ == "__main__":
    main()
