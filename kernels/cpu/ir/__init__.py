"""The one place that writes LLVM IR: instruction sets, vector code, memory by address."""
