"""One file per verb of the command line: arguments in, library calls, text or JSON out."""
