//! Rules of engines and of what is stored.

use super::Check;
use crate::recipe::{Mode, Precision, Provider, StoreMode};

pub(super) fn engine_is_available(check: &mut Check<'_>) {
    let engine = &check.recipe.engine;
    // Whether the machine has the provider is seen when the plan is resolved; this is what no machine can do.
    let able: &[Provider] = match engine.precision {
        Precision::Fp32 => &[Provider::Auto],

        Precision::Fp16 => &[
            Provider::Cpu,
            Provider::Cuda,
            Provider::Tensorrt,
            Provider::TensorrtRtx,
            Provider::Webgpu,
            Provider::Coreml,
            Provider::Directml,
        ],
        Precision::Bf16 => &[Provider::Openvino, Provider::Tensorrt],
        Precision::Int8 => &[Provider::Cpu, Provider::Openvino, Provider::Tensorrt],
    };
    let any = engine.provider == Provider::Auto || engine.precision == Precision::Fp32;
    if !any && !able.contains(&engine.provider) {
        let (name, precision) = (engine.provider.name(), engine.precision.name());
        let able: Vec<String> = able.iter().map(|provider| format!("`{}`", provider.name())).collect();
        let message = format!("`{name}` does not compute in {precision}; {} do", able.join(", "));
        check.problem("engine.provider", message);
    }
    if engine.precision != Precision::Int8 && engine.calibration.is_some() {
        check.problem("engine.calibration", "is for `precision: int8`; nothing else is calibrated");
    }
}

pub(super) fn store_fits(check: &mut Check<'_>) {
    let above = |mode| matches!(mode, Mode::Full | Mode::Scratch);
    let at_input = check.backbone().is_some_and(|backbone| above(backbone.mode));
    match check.recipe.cache.store {
        StoreMode::Inputs if !at_input => check.problem(
            "cache.store",
            "`inputs` is for the modes `full` and `scratch`, whose cut is at the input; here the cut has `activations`",
        ),
        _ => {}
    }
}
