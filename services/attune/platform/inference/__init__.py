"""The Open Inference Protocol v2 as the model servers share it: the service, and tensors on the wire."""
