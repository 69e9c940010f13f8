"""Is the exact search exact? Small programs, held against an enumerator that shares nothing with the product."""
