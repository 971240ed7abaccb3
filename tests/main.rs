//! All integration tests, in one binary: linking ONNX Runtime's users many times is slow.

mod it;
