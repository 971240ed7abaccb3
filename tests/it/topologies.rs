//! A tiny network of each family's topology goes the whole way of an engine, in the real runtime.

use std::collections::BTreeSet;

use caft::backbone::catalogue;
use caft::base::progress::Silent;
use caft::base::{Cancel, Digest, Error, Home};
use caft::engine::precision::Conversion;
use caft::engine::runtime::{self, Prepared};
use caft::engine::verify::{Reference, verify};
use caft::engine::{BuildRequest, OnnxRuntime, Samples, build, random_tensor};
use caft::graph::onnx::testing::families::{FAMILIES, Family};
use caft::graph::onnx::{self, OutputSpec, Select, inspect};
use caft::recipe::{Precision, Provider};
use caft::resource::Fetcher;

/// Where engines are built, and what runs them.
struct Bench {
    folder: tempfile::TempDir,
    home: Home,
    prepared: Prepared,
}

impl Bench {
    fn new() -> Self {
        let own = Home::from_environment().unwrap();
        let prepared =
            runtime::prepare(&Fetcher::new(&own, &Silent, &Cancel::default(), false), Provider::Cpu, Precision::Fp32);
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        Self { folder, home, prepared: prepared.unwrap() }
    }

    /// Cuts a family's network, builds the engine, and compares it with the network as it was exported: the worst
    /// cosine of the outputs.
    fn prove(&self, family: &Family, case: Case<'_>) -> caft::base::Result<f64> {
        let Case { batch, side, conversion, shapes } = case;
        let source = self.folder.path().join(format!("{}.onnx", family.name));
        onnx::write(&family.model(batch), &source)?;
        let spec = |(i, (tensor, select, _)): (usize, &(&str, Select, &[usize]))| OutputSpec {
            name: format!("o{i}"),
            tensor: (*tensor).into(),
            select: *select,
        };
        let outputs: Vec<OutputSpec> = family.cuts.iter().enumerate().map(spec).collect();
        let request = BuildRequest {
            name: family.name,
            source: &source,
            address: "",
            digest: Digest::of_file(&source)?,
            outputs: &outputs,
            licence: None,
            family: None,
            tasks: &[],
            preprocess: None,
            inputs: None,
            image: Some([side, side]),
            conversion,
        };
        let mut built = build(&self.home, &request)?;
        let row = [3, side, side];
        let whole = self.folder.path().join("whole.onnx");
        let reference = Reference::write(&source, &built.manifest, &row, &whole)?;
        let open = |path| OnnxRuntime::open(&self.prepared, &self.home, path, 1);
        let (mut theirs, mut ours) = (open(&whole)?, open(&built.model())?);
        let wanted: Vec<Option<Vec<Option<usize>>>> =
            shapes.iter().map(|shape| Some(shape.iter().copied().map(Some).collect())).collect();
        let said: Vec<_> = built.manifest.outputs.iter().map(|output| output.shape.clone()).collect();
        ensure(said == wanted, || format!("shapes {said:?}"))?;
        let samples = Samples::random(&row, 3);
        let wanted = reference.run(&mut theirs, &samples)?;
        reference.learn(&mut built.manifest, &wanted[0])?;
        let probe = |seed| vec![random_tensor(&row, seed)];
        let checks = verify(&built.manifest, &mut ours, (&reference, &wanted), &probe, &samples, "")?;
        ensure(checks.batch_invariant || !family.steady, || "a sample depends on its batch".into())?;
        Ok(checks.worst_cosine().unwrap_or(0.0))
    }

    /// Proves every family and tells what failed.
    fn prove_all(&self, least: f64, case: impl Fn(&Family) -> Vec<Case<'static>>) {
        let mut failed = Vec::new();
        for family in FAMILIES {
            for case in case(family) {
                match self.prove(family, case) {
                    Ok(cosine) if cosine > least => {}
                    outcome => failed.push(format!("{}, batch {:?}: {outcome:?}", family.name, case.batch)),
                }
            }
        }
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }
}

/// How a family is proven.
#[derive(Clone, Copy)]
struct Case<'a> {
    /// The batch that the export froze.
    batch: Option<usize>,
    /// Height and width of pictures.
    side: usize,
    conversion: Conversion<'a>,
    /// The shapes of the outputs' rows.
    shapes: &'a [&'static [usize]],
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> caft::base::Result<()> {
    if holds { Ok(()) } else { Err(Error::failed(what())) }
}

fn shapes(family: &Family) -> &'static [&'static [usize]] {
    family.cuts.iter().map(|(_, _, shape)| *shape).collect::<Vec<_>>().leak()
}

#[test]
fn every_family_of_the_catalogue_has_a_topology() {
    let stand_ins: BTreeSet<&str> = FAMILIES.iter().flat_map(|family| family.stands_for).copied().collect();
    let entries = catalogue().unwrap().entries();
    let families: BTreeSet<&str> =
        entries.filter(|entry| entry.image_size().is_some()).map(|entry| entry.family.as_str()).collect();
    assert_eq!(stand_ins, families);
}

#[test]
fn every_topology_becomes_an_engine_whether_its_batch_was_frozen_or_not() {
    let both = |family: &Family| {
        let case = |batch| Case { batch, side: 32, conversion: Conversion::Keep, shapes: shapes(family) };
        vec![case(None), case(Some(1))]
    };
    Bench::new().prove_all(0.999_999, both);
}

#[test]
fn every_topology_computes_in_fp16() {
    let half =
        |family: &Family| vec![Case { batch: None, side: 32, conversion: Conversion::Half, shapes: shapes(family) }];
    Bench::new().prove_all(0.999, half);
}

#[test]
fn larger_pictures_are_taken_or_the_node_that_prevents_it_is_named() {
    let bench = Bench::new();
    let cases = |shapes| [None, Some(1)].map(|batch| Case { batch, side: 64, conversion: Conversion::Keep, shapes });
    bench.prove_all(0.999_999, |family| family.larger.map(|shapes| cases(shapes).to_vec()).unwrap_or_default());
    for family in FAMILIES {
        let Err(node) = family.larger else { continue };
        for case in cases(&[]) {
            let error = bench.prove(family, case).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(node), "{}, batch {:?}: {error}", family.name, case.batch);
        }
    }
}

#[test]
fn every_topology_is_small_and_can_be_looked_into() {
    for family in FAMILIES {
        let model = family.model(None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        onnx::write(&model, &path).unwrap();
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes < 80 * 1024, "{} has {bytes} bytes", family.name);
        let summary = inspect::summarise(&model, None).unwrap();
        assert!(summary.flops > 0 && !summary.cuts.is_empty(), "{}", family.name);
        assert_eq!(summary.tree.parameters, summary.parameters, "{}", family.name);
        // Where a stage ends is found, not a map inside of the next one; transformers end theirs as tokens,
        // and the tiny MobileViT has two of one size.
        let odd = family.name == "mobilevit" || summary.cuts.iter().any(|cut| cut.name == "tokens");
        let stages = family.cuts.iter().filter(|(name, ..)| *name == "c2" && !odd);
        for (name, ..) in stages {
            let found = summary.cuts.iter().find(|cut| cut.name == *name).map(|cut| cut.tensor.as_str());
            assert_eq!(found, Some(*name), "{}", family.name);
        }
    }
}
