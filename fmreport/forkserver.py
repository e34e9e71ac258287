"""What the process that kernels are forked from imports first of all: it ends with its run."""

from fmlib.process import end_with_parent

end_with_parent()
