"""python -m faceproof is the command line."""

from faceproof.cli import main

main()
