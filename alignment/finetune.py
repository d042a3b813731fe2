"""Train part of a language model, on instructions or behind soft tokens: `st2llm finetune` as a script.

python alignment/finetune.py questions-graph --out runs/finetune
ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 alignment/finetune.py questions-graph
"""

import sys

from st2llm.cli import main

if __name__ == "__main__":
    main(["finetune", *sys.argv[1:]])
