//! The frozen part of an exported file: the run's own engine, or the same network in another precision.

use crate::base::{Error, Result};
use crate::engine::precision::{Calibration, Conversion};
use crate::engine::runtime::{self, Prepared};
use crate::engine::verify::Scratch;
use crate::graph::onnx;
use crate::graph::onnx::proto::ModelProto;
use crate::plan::ResolvedPlan;
use crate::recipe::{CalibrationConfig, Precision, Provider};
use crate::run::calibration;
use crate::run::context::Context;
use crate::run::engine::{self, Source};
use crate::run::resolve::resolve_field;

/// A cut backbone.
pub struct Backbone {
    /// The model.
    pub model: ModelProto,
    /// What runs it as the run did; for a converted one, what runs the new precision on the processor.
    pub target: Prepared,
    /// How it was calibrated, if it was calibrated now.
    pub note: Option<String>,
}

/// The precision that the engine of a run is kept in.
pub fn kept_in(plan: &ResolvedPlan) -> Precision {
    match plan.plan.engine.precision {
        Precision::Int8 => Precision::Int8,
        other => Conversion::of(other).precision(),
    }
}

/// The cut backbone of a run, or of one of its towers, in a precision: as its engine is kept, or converted from the one
/// in fp32 in the way that engines are; `field` is the tower's, where each has its own.
///
/// # Errors
/// The backbone is not here in fp32; those of the conversion, which for `int8` needs the run's training samples.
pub fn backbone(
    (plan, field): (&ResolvedPlan, Option<&str>),
    wanted: Precision,
    scratch: &Scratch,
    context: &Context<'_>,
) -> Result<Backbone> {
    if wanted == kept_in(plan) {
        let source = Source::fetch(&plan.plan, context)?;
        let built = engine::build_engine(plan, &source, &|| calibration::again(plan, field, context), context)?;
        return Ok(Backbone { model: onnx::read(&built.model())?, target: source.engine, note: None });
    }
    let mut plain = plan.clone();
    (plain.plan.engine.precision, plain.plan.engine.calibration, plain.calibration) = (Precision::Fp32, None, None);
    let source = Source::fetch(&plain.plan, context)?.in_fp32()?;
    if !source.has_fp32() {
        let (own, wanted) = (kept_in(plan).name(), wanted.name());
        return Err(Error::bad_input(format!("a backbone in {own} is not converted to {wanted}"))
            .hint("run the recipe with `engine.precision` set to it, and export that run"));
    }
    let never = || Err(Error::failed("an engine in fp32 is not calibrated"));
    let built = engine::build_engine(&plain, &source, &never, context)?;
    let model = onnx::read(&built.model())?;
    let target = runtime::prepare(&context.fetcher(), Provider::Cpu, wanted)?;
    if wanted != Precision::Int8 {
        let model = Conversion::of(wanted).apply(model, scratch.path())?.model;
        return Ok(Backbone { model, target, note: None });
    }
    // The samples are those that a run in `int8` would take.
    let config = plan.plan.engine.calibration.clone().unwrap_or_else(CalibrationConfig::default);
    plain.plan.engine.calibration = Some(config.clone());
    let resolved = resolve_field(&plain.plan, field, context)?;
    let calibration = Calibration {
        config: &config,
        digest: resolved.plan.calibration.unwrap_or(plan.dataset),
        samples: &|| calibration::samples(&resolved, context),
        probe: &|seed| resolved.source.ready.probe(seed, 0),
        target: &target,
        progress: context.progress,
        cancel: context.cancel,
    };
    let converted = Conversion::Int8(&calibration).apply(model, scratch.path())?;
    let note = converted.calibrated.map(|calibrated| {
        let (layers, float) = (calibrated.layers, calibrated.float_layers.len());
        format!(
            "int8 was calibrated on {} training samples: cosine {:.5} with fp32 on {} held out, {float} of {layers} \
             layers left in float",
            calibrated.samples, calibrated.cosine, calibrated.held_out
        )
    });
    Ok(Backbone { model: converted.model, target, note })
}
