//! Rank 5: engines: cut ONNX models in an inference runtime.
