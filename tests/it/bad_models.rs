//! Models that cannot become engines: each is one clear error, and nothing half-written stays.

use caft::graph::onnx::make::{self, Size};
use caft::graph::onnx::proto::{
    AttributeProto, AttributeType, DataType, GraphProto, ModelProto, StringStringEntryProto, TensorProto,
};
use caft::graph::onnx::{self, testing};

use super::project::Project;

const NORM: &str = "/norm/Add_1_output_0";

/// A project and what it refuses.
struct Refusals(Project);

impl Refusals {
    fn new() -> Self {
        Self(Project::new(1))
    }

    fn model(&self, name: &str, model: &ModelProto) {
        onnx::write(model, &self.0.path(name)).unwrap();
    }

    /// Builds an engine, which must fail with one error; gives what was said.
    fn build(&self, model: &str, output: &str) -> String {
        self.refuse(&["engine", "build", model, "-o", output])
    }

    fn refuse(&self, arguments: &[&str]) -> String {
        let before = self.engines();
        let ran = self.0.run(arguments);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert_eq!(ran.stderr.matches("error: ").count(), 1, "{ran:?}");
        assert_eq!(ran.stdout, "");
        assert_eq!(self.engines(), before, "nothing half-written stays");
        ran.stderr
    }

    fn engines(&self) -> Vec<std::ffi::OsString> {
        let entries = std::fs::read_dir(self.0.path("home/engines"));
        entries.into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect()
    }
}

/// `x` [n, 4] through one operator.
fn relu(opset: i64) -> ModelProto {
    let mut b = testing::Builder::new("relu", opset, 0);
    let x = b.input("x", vec!["n".into(), 4.into()]);
    let y = b.op("Relu", &[&x], Vec::new());
    b.output(&y, "y", vec![Size::from("n"), 4.into()]);
    b.finish()
}

#[test]
fn a_file_that_is_no_whole_model_is_told_apart() {
    let refusals = Refusals::new();
    refusals.0.write("page.onnx", "<!DOCTYPE html><title>sign in</title>");
    assert!(refusals.build("page.onnx", "y=y").contains("is not an ONNX model but a web page"));
    refusals.0.write("text.onnx", "hello, this is no model");
    assert!(refusals.build("text.onnx", "y=y").contains("`text.onnx` is not an ONNX model"));
    assert!(refusals.build("none.onnx", "y=y").contains("none.onnx"));
    refusals.model("whole.onnx", &testing::tiny_vit());
    let bytes = std::fs::read(refusals.0.path("whole.onnx")).unwrap();
    std::fs::write(refusals.0.path("half.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    let said = refusals.build("half.onnx", "y=y");
    assert!(said.contains("`half.onnx` is truncated: it has"), "{said}");
}

#[test]
fn external_data_stays_inside_the_folder() {
    let refusals = Refusals::new();
    refusals.0.write("secret.bin", "0123456789abcdef");
    std::fs::create_dir(refusals.0.path("models")).unwrap();
    let at = |location: &str| {
        let mut model = relu(13);
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        let graph = model.graph.as_mut().unwrap();
        graph.node[0] = make::node("Add", &["x", "w"], &["/Relu_output_0"], Vec::new());
        graph.initializer.push(TensorProto {
            name: "w".into(),
            dims: vec![4],
            data_type: DataType::Float.into(),
            data_location: 1,
            external_data: vec![entry("location", location)],
            ..TensorProto::default()
        });
        model
    };
    let write = |name: &str, location: &str| {
        std::fs::write(refusals.0.path(name), prost::Message::encode_to_vec(&at(location))).unwrap();
    };
    let absolute = refusals.0.path("secret.bin").display().to_string();
    for location in ["../secret.bin", &absolute] {
        write("models/escapes.onnx", location);
        let said = refusals.build("models/escapes.onnx", "y=/Relu_output_0");
        assert!(said.contains("is outside the model's folder"), "{said}");
    }
    write("models/lacks.onnx", "weights.bin");
    let said = refusals.build("models/lacks.onnx", "y=/Relu_output_0");
    assert!(said.contains("in `weights.bin`"), "{said}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(refusals.0.path("secret.bin"), refusals.0.path("models/weights.bin")).unwrap();
        let said = refusals.build("models/lacks.onnx", "y=/Relu_output_0");
        assert!(said.contains("outside the model's folder"), "{said}");
    }
}

#[test]
fn operators_that_the_runtime_lacks_are_told() {
    let refusals = Refusals::new();
    refusals.model("newer.onnx", &relu(99));
    let said = refusals.build("newer.onnx", "y=/Relu_output_0");
    assert!(said.contains("uses newer ONNX operators than version "), "{said}");
    assert!(said.contains("`CAFT_ORT_DYLIB`"), "{said}");
    let mut newer = relu(17);
    newer.ir_version = 99;
    refusals.model("format.onnx", &newer);
    let said = refusals.build("format.onnx", "y=/Relu_output_0");
    assert!(said.contains("has a newer ONNX format than version "), "{said}");
    let mut foreign = relu(13);
    foreign.graph.as_mut().unwrap().node[0].op_type = "Sparkle".into();
    refusals.model("foreign.onnx", &foreign);
    let said = refusals.build("foreign.onnx", "y=/Relu_output_0");
    assert!(said.contains("cannot load") && said.contains("Sparkle"), "{said}");
}

#[test]
fn a_cut_that_is_not_there_or_inside_control_flow_is_refused() {
    let refusals = Refusals::new();
    refusals.model("vit.onnx", &testing::tiny_vit());
    let said = refusals.build("vit.onnx", "x=/norm/Add_1_output_9");
    assert!(said.contains("did you mean `/norm/Add_1_output_0`?"), "{said}");
    let said = refusals.refuse(&["engine", "build", "vit_small_patch14_focus", "--onnx", "vit.onnx", "-o", "clss"]);
    assert!(said.contains("did you mean `cls`?"), "{said}");

    let mut b = testing::Builder::new("if", 13, 0);
    let x = b.input("x", vec!["n".into(), 4.into()]);
    let condition = b.weight("condition", &[], 0.0, 1.0);
    let branch = |op: &str| GraphProto {
        node: vec![make::node(op, &[&x], &[&format!("in_{op}")], Vec::new())],
        output: vec![make::value_info(&format!("in_{op}"), DataType::Float, None)],
        ..GraphProto::default()
    };
    let attribute = |name: &str, graph| AttributeProto {
        name: name.into(),
        g: Some(graph),
        r#type: AttributeType::Graph.into(),
        ..AttributeProto::default()
    };
    let branches = vec![attribute("then_branch", branch("Abs")), attribute("else_branch", branch("Neg"))];
    let y = b.op("If", &[&condition], branches);
    b.output(&y, "y", vec![Size::from("n"), 4.into()]);
    refusals.model("if.onnx", &b.finish());
    let said = refusals.build("if.onnx", "y=in_Abs");
    assert!(said.contains("lies inside the control flow of the node `/If` (If)"), "{said}");
}

#[test]
fn a_batch_that_cannot_be_freed_is_told_with_its_node() {
    let refusals = Refusals::new();
    let four = testing::vit_like(&testing::Vit { frozen: Some(4), ..Default::default() });
    refusals.model("four.onnx", &four);
    let said = refusals.build("four.onnx", &format!("cls={NORM}:token=0"));
    assert!(said.contains("fixed to a batch of 4 and cannot be freed: the node `/embeddings/Concat`"), "{said}");
}

#[test]
fn a_model_is_fed_one_input() {
    let refusals = Refusals::new();
    let mut b = testing::Builder::new("two", 17, 0);
    let (left, right) = (b.input("left", vec!["n".into(), 4.into()]), b.input("right", vec!["n".into(), 4.into()]));
    let sum = b.op("Add", &[&left, &right], Vec::new());
    b.output(&sum, "sum", vec![Size::from("n"), 4.into()]);
    refusals.model("two.onnx", &b.finish());
    let said = refusals.build("two.onnx", "sum=/Add_output_0");
    assert!(said.contains("has 2 inputs (`left`, `right`), and only one is fed"), "{said}");

    let mut b = testing::Builder::new("none", 17, 0);
    let weight = b.weight("weight", &[1, 4], 0.0, 1.0);
    let y = b.op("Relu", &[&weight], Vec::new());
    b.output(&y, "y", vec![1.into(), 4.into()]);
    refusals.model("none.onnx", &b.finish());
    let said = refusals.build("none.onnx", "y=/Relu_output_0");
    assert!(said.contains("`/Relu_output_0` does not depend on any input"), "{said}");
}

#[test]
fn an_engine_that_was_changed_is_not_used() {
    let refusals = Refusals::new();
    let project = &refusals.0;
    refusals.model("vit.onnx", &testing::tiny_vit());
    let built = project.run(&["engine", "build", "vit.onnx", "-o", &format!("cls={NORM}:token=0"), "--json"]);
    assert_eq!(built.code, Some(0), "{built:?}");
    let folder = project.path("home/engines").join(&refusals.engines()[0]);
    let mut model = std::fs::read(folder.join("model.onnx")).unwrap();
    *model.last_mut().unwrap() ^= 1;
    std::fs::write(folder.join("model.onnx"), model).unwrap();
    for command in [&["engine", "verify", "vit"][..], &["engine", "pack", "vit", "-o", "vit.caft-engine"]] {
        let ran = project.run(command);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains("is not the file that the engine was built with"), "{ran:?}");
    }
    assert!(!project.path("vit.caft-engine").exists());
}
