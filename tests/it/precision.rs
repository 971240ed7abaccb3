//! Runs in less than fp32, and models that mix the samples of a batch, as a user sees them.

use caft::graph::onnx::make::{self, Size};
use caft::graph::onnx::proto::TensorProto;
use caft::graph::onnx::{self, testing};

use super::project::Project;

#[test]
fn int8_is_calibrated_compared_and_refused() {
    let project = Project::new(12);
    let run = |words: &[&str]| {
        let fixed = ["run", "recipe.yaml", "--json", "engine.precision=int8", "engine.provider=cpu"];
        project.run(&[&fixed, words].concat())
    };
    let first = run(&["++engine.calibration.samples=8"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let record = first.json();
    assert!(record["metrics"]["test/accuracy"].as_f64().unwrap() >= 0.9, "{record}");
    let cost = &record["precision_cost"];
    assert_eq!((&cost["split"], &cost["rows"]), (&"test".into(), &24.into()), "{record}");
    assert!(cost["in_fp32"]["test/accuracy"].is_f64() && cost["metrics"]["test/accuracy"].is_f64(), "{record}");

    let engines = project.run(&["engine", "ls", "--json"]).json();
    let quantised = engines.as_array().unwrap().iter().find(|engine| engine["manifest"]["precision"] == "int8");
    let calibration = &quantised.unwrap()["manifest"]["calibration"];
    assert_eq!((&calibration["samples"], &calibration["held_out"]), (&8.into(), &2.into()), "{calibration}");
    let cosine = calibration["cosine"].as_f64().unwrap();
    assert!((0.99..1.0).contains(&cosine), "{calibration}");

    let again = run(&["++engine.calibration.samples=8", "train.optimizer.lr=3e-3"]).json();
    assert_eq!(again["activations"]["computed"], 0, "{again}");
    let other = run(&["++engine.calibration.samples=8", "++engine.calibration.method=entropy"]).json();
    assert_eq!(other["activations"]["computed"], 48, "another calibration is another engine: {other}");

    let refused = run(&["++engine.calibration.min_cosine=1.0"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("`int8` on cpu has a cosine of 0.9"), "{refused:?}");
    let misplaced = project.run(&["run", "recipe.yaml", "++engine.calibration.samples=8"]);
    assert!(misplaced.code == Some(2) && misplaced.stderr.contains("is for `precision: int8`"), "{misplaced:?}");

    let path = record["path"].as_str().unwrap();
    let predict = || project.run(&["predict", path, "data/test/warm/000.png"]);
    let before = predict();
    assert_eq!(before.code, Some(0), "{before:?}");
    std::fs::remove_dir_all(project.path("home/engines")).unwrap();
    assert_eq!(predict().stdout, before.stdout, "the engine is calibrated again, on the same samples");
}

#[test]
fn fp16_says_what_it_cost() {
    let project = Project::new(6);
    let ran = project.run(&["run", "recipe.yaml", "engine.precision=fp16", "engine.provider=cpu"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("fp16 costs: test/accuracy"), "{ran:?}");
    assert!(ran.stderr.contains("fp16 on cpu") && ran.stderr.contains(" to fp32"), "{ran:?}");
    let shown = project.run(&["runs", "show", "warmth"]);
    assert!(shown.stdout.contains("fp16 costs: test/accuracy"), "{shown:?}");
    let run = project.run(&["runs", "--json"]).json()[0]["path"].as_str().unwrap().to_string();
    let page = std::fs::read_to_string(project.path(&run).join("report.html")).unwrap();
    assert!(page.contains("fp16 costs: test/accuracy"), "the page says so too");
}

/// A convolution's features, quantised by a scale of the whole batch.
fn dynamic() -> onnx::proto::ModelProto {
    let mut b = testing::Builder::new("dynamic", 13, 3);
    let image = b.input("image", vec!["N".into(), 3.into(), 32.into(), 32.into()]);
    let weight = b.weight("weight", &[16, 3, 4, 4], 0.0, 0.2);
    let strides = vec![make::ints("kernel_shape", &[4, 4]), make::ints("strides", &[4, 4])];
    let maps = b.op("Conv", &[&image, &weight], strides);
    let maps = b.op("Relu", &[&maps], Vec::new());
    let pooled = b.op("GlobalAveragePool", &[&maps], Vec::new());
    let vector = b.op("Flatten", &[&pooled], vec![make::int("axis", 1)]);
    let quantised = b.op_of("DynamicQuantizeLinear", &[&vector], 3, Vec::new());
    let values: Vec<u8> = (0..16 * 8).map(|i| (i * 37 % 255) as u8).collect();
    let matrix = TensorProto::from_raw("matrix", onnx::proto::DataType::Uint8, &[16, 8], values.into());
    let matrix = b.op("Constant", &[], vec![make::tensor("value", matrix)]);
    let product = b.op("MatMulInteger", &[&quantised[0], &matrix, &quantised[2]], Vec::new());
    let product = b.op("Cast", &[&product], vec![make::int("to", 1)]);
    let features = b.op("Mul", &[&product, &quantised[1]], Vec::new());
    b.output(&features, "features", vec![Size::from("N"), 8.into()]);
    b.finish()
}

#[test]
fn a_model_that_mixes_a_batch_runs_one_sample_at_a_time() {
    let project = Project::new(6);
    onnx::write(&dynamic(), &project.path("backbone.onnx")).unwrap();
    let run = |batch: &str| {
        let (words, home) = ([format!("engine.batch_size={batch}")], project.path(&format!("home{batch}")));
        let arguments =
            ["run", "recipe.yaml", "--json", "--fresh", "model.backbone.outputs=[/Mul_output_0]", &words[0]];
        let mut command = project.command(&arguments);
        super::project::ran(command.env("CAFT_HOME", home).output().unwrap())
    };
    let (alone, together) = (run("1"), run("8"));
    assert_eq!(together.code, Some(0), "{together:?}");
    for ran in [&alone, &together] {
        let said = "depends on its batch, from the node `/DynamicQuantizeLinear` (DynamicQuantizeLinear) on: each runs";
        assert!(ran.stderr.contains(said), "{ran:?}");
    }
    assert_eq!(alone.json()["metrics"], together.json()["metrics"], "batches of 8 are not formed");

    let built = project.run(&["engine", "build", "backbone.onnx", "-o", "f=/Mul_output_0"]);
    assert!(built.stdout.contains("DEPEND ON ITS BATCH, from the node `/DynamicQuantizeLinear`"), "{built:?}");
}

#[test]
#[cfg(unix)]
fn every_precision_is_measured_and_what_python_lacks_is_said() {
    let project = Project::new(1);
    let bare = super::engine::interpreter(&project, "bare", None);
    let fixed = ["bench", "engine", "backbone.onnx", "--json", "--batch=2", "--seconds=1", "--rounds=1", "--python"];
    let ran = project.run(&[&fixed[..], &[&bare, "--precisions=fp16,int8", "--min-cosine=0"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = ran.json();
    let of = |precision: &str| {
        let rows = told["rows"].as_array().unwrap();
        rows.iter().find(|row| row["provider"] == "cpu" && row["precision"] == precision).unwrap().clone()
    };
    assert_eq!(of("fp32")["ratio"], 1.0, "{told}");
    for precision in ["fp16", "int8"] {
        assert!(of(precision)["cosine"].as_f64().unwrap() > 0.9 && of(precision)["batch_invariant"] == true, "{told}");
    }
    assert!(told["absent"][0].as_str().unwrap().contains("No module named 'numpy'"), "{told}");
    let refused = project.run(&[&fixed[..], &[&bare, "--precisions=int8", "--min-cosine=1"]].concat()).json();
    assert!(refused["absent"][0].as_str().unwrap().starts_with("cpu int8: `int8` on cpu has a cosine of"), "{refused}");
}
