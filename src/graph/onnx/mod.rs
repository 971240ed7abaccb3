//! ONNX files: reading, writing and surgery on the protobuf.
