"""`python -m safetylayers`, and with it `accelerate launch -m safetylayers`."""

from safetylayers.cli import main

main()
