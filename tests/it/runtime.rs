//! ONNX Runtime is fetched, checked, loaded and runs.

use caft::base::Cancel;
use caft::base::home::Home;
use caft::base::progress::Silent;
use caft::engine::runtime::{self, Machine};
use caft::engine::{Engine, InputTensor, OnnxRuntime};
use caft::graph::onnx::{self, OutputSpec, Select, testing};
use caft::recipe::{Precision, Provider};
use caft::resource::Fetcher;

#[test]
fn the_pinned_runtime_is_fetched_and_loads() {
    let home = Home::from_environment().unwrap();
    let cancel = Cancel::default();
    let fetcher = Fetcher::new(&home, &Silent, &cancel, false);
    let library = runtime::ensure(&fetcher).unwrap();
    assert_eq!(runtime::present(&fetcher).unwrap(), Some(library.clone()));
    let environment = runtime::load(&library).unwrap();
    let devices: Vec<String> = environment.devices().map(|device| device.ep().unwrap().to_string()).collect();
    assert!(devices.iter().any(|ep| ep == "CPUExecutionProvider"), "{devices:?}");
    assert!(runtime::load(&library).is_ok(), "a second load gives the same environment");
}

/// The rows of a few made-up pictures through an engine, in one batch.
fn run(engine: &mut OnnxRuntime, pictures: &[f32], batch: usize) -> Vec<f32> {
    let mut outputs = vec![Vec::new(); engine.outputs().len()];
    let shape = [batch, 3, 32, 32];
    engine.run(&[InputTensor::F32 { shape: &shape, data: pictures }], &mut outputs).unwrap();
    outputs.swap_remove(0)
}

#[test]
fn openvino_agrees_with_the_processor_alone_and_in_a_batch() {
    let machine = Machine::here();
    if !machine.is_x86() {
        return;
    }
    let home = Home::from_environment().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cancel = Cancel::default();
    let fetcher = Fetcher::new(&home, &Silent, &cancel, false);
    let model = folder.path().join("tiny.onnx");
    let tensor = "/norm/Add_1_output_0";
    let spec = OutputSpec { name: "cls".into(), tensor: tensor.into(), select: Select::Token { index: 0 } };
    onnx::write(&onnx::cut(testing::tiny_vit(), &[spec]).unwrap(), &model).unwrap();
    let pictures: Vec<f32> = (0..4 * 3 * 32 * 32).map(|i| (i as f32 * 0.37).sin()).collect();

    let open = |provider, precision, home: &Home| {
        let prepared = runtime::prepare(&fetcher, provider, precision).unwrap();
        OnnxRuntime::open(&prepared, home, &model, 2).unwrap()
    };
    let wanted = run(&mut open(Provider::Cpu, Precision::Fp32, &home), &pictures, 4);
    let own = Home::at(folder.path().join("home"));
    let precisions: &[Precision] = if machine.bf16 { &[Precision::Fp32, Precision::Bf16] } else { &[Precision::Fp32] };
    for &precision in precisions {
        let first = run(&mut open(Provider::Openvino, precision, &own), &pictures, 4);
        let compiled = run(&mut open(Provider::Openvino, precision, &own), &pictures, 4);
        assert_eq!(first, compiled, "a compiled engine gives the same bits");
        let alone = run(&mut open(Provider::Openvino, precision, &own), &pictures[..3 * 32 * 32], 1);
        assert_eq!(alone, first[..alone.len()], "{precision:?}: a sample does not depend on its batch");
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>();
        let cosine = dot(&wanted, &first) / (dot(&wanted, &wanted) * dot(&first, &first)).sqrt();
        assert!(cosine > if precision == Precision::Fp32 { 0.999_999 } else { 0.999 }, "{precision:?}: {cosine}");
    }
    assert_eq!(std::fs::read_dir(own.path().join("compiled")).unwrap().count(), precisions.len());
}
