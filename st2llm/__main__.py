"""`python -m st2llm` is the command `st2llm`."""

from st2llm.cli import main

if __name__ == "__main__":
    main()
