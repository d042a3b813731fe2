"""Bring an encoder into a frozen language model's space: `st2llm align` as a script.

python alignment/align.py align-graph --out runs/align
ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 alignment/align.py align-graph
"""

import sys

from st2llm.cli import main

if __name__ == "__main__":
    main(["align", *sys.argv[1:]])
