"""On the owner's machine: a framework's model to one of the two forms that an enclave opens.

Nothing here is imported by a role. What the enclave opens is ONNX, or OpenVINO IR in one file;
pickles, archives and directories stay with their owner.
"""
