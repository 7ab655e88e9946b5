"""Run the notebooks of docs/ and put what they print and draw into them: no kernel is needed.

    python tests/tools/notebook.py docs/boundary_loss.ipynb

The cells run one after the other as a single program, in the notebook's own folder.
"""

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path

END_OF_CELL = "\x1e"
BEFORE = """\
import matplotlib
matplotlib.use("agg")
def _end_of_cell(number):
    import matplotlib.pyplot as plt
    for k in plt.get_fignums():
        plt.figure(k).savefig(f"{FIGURES}/{number}-{k}.png", dpi=90, metadata={"Software": None})
    plt.close("all")
    print(end=END_OF_CELL, flush=True)
"""


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cells(path):
    """Run a notebook; (text, [PNG file as bytes]) for each of its code cells.

    Raises:
        RuntimeError: a cell failed; with its traceback.
    """
    with tempfile.TemporaryDirectory() as folder:
        program = [f"FIGURES, END_OF_CELL = {folder!r}, {END_OF_CELL!r}", BEFORE]
        for number, cell in enumerate(code_cells(read(path))):
            program += ["".join(cell["source"]), f"_end_of_cell({number})"]
        file = Path(folder) / "cells.py"
        file.write_text("\n".join(program), encoding="utf-8")

        ran = subprocess.run([sys.executable, file], cwd=path.parent, capture_output=True,
                             text=True)
        if ran.returncode:
            raise RuntimeError(f"{path}: {ran.stderr}")

        texts = ran.stdout.split(END_OF_CELL)[:-1]
        return [(text, [figure.read_bytes() for figure in sorted(Path(folder).glob(f"{k}-*.png"))])
                for k, text in enumerate(texts)]


def outputs_of(text, figures):
    """What a cell printed and drew, in the notebook's format."""
    outputs = []
    if text:
        outputs.append({"name": "stdout", "output_type": "stream",
                        "text": text.splitlines(keepends=True)})
    for figure in figures:
        outputs.append({"data": {"image/png": base64.b64encode(figure).decode() + "\n",
                                 "text/plain": ["<Figure>"]},
                        "metadata": {}, "output_type": "display_data"})
    return outputs


def main(path):
    notebook = read(path)
    for number, (cell, ran) in enumerate(zip(code_cells(notebook), run_cells(path), strict=True)):
        cell.update(execution_count=number + 1, outputs=outputs_of(*ran))
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
