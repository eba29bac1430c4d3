"""Arrays on the GPU: our own, those of other libraries, copies between layouts."""
