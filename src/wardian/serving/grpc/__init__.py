"""The Open Inference Protocol over gRPC, which is HTTP/2 with messages of Protocol Buffers."""
