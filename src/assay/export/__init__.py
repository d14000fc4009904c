"""A trained model as one checked ONNX graph, in float32, float16 or int8."""
