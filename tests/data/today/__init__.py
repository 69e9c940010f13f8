"""Linux 6.12 with one fix taken out each, as patch files. They are never imported: `--patch FILE` loads them."""
