//! Rank 1: ONNX files, and the trainable graph.
pub mod onnx;
