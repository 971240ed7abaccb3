//! Segmentation by a head on each token of a vision transformer, as a user sees it.

use caft::base::random::Stream;
use caft::graph::onnx;
use image::{GrayImage, Luma, Rgb, RgbImage};

use super::project::Project;

const SIDE: u32 = 32;

const RECIPE: &str = "
name: reds
model:
  backbone: {onnx: vit.onnx, outputs: [tokens]}
  neck: {kind: standardize}
data:
  kind: segmentation
  train: {path: data/train}
  test: {path: data/test}
  names: [blue, red]
  preprocess: {resize: {size: 32, mode: exact}, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}
train: {epochs: 60, batch_size: 64, optimizer: {kind: adamw, lr: 2.0e-2}}
";

/// Pictures of blue and red cells of 8 pixels, with their masks; the first cell of each is void.
fn project() -> Project {
    let project = Project::new(1);
    onnx::write(&onnx::testing::tiny_vit(), &project.path("vit.onnx")).unwrap();
    for (split, count) in [("train", 24), ("test", 8)] {
        for folder in ["images", "masks"] {
            std::fs::create_dir_all(project.path(&format!("data/{split}/{folder}"))).unwrap();
        }
        for number in 0..count {
            let drawn = Stream::named(number, split);
            let is_red = |x: u32, y: u32| drawn.below(u64::from(y / 8 * 4 + x / 8), 2) == 1;
            let noise = |x: u32, y: u32| drawn.below(u64::from(1000 + y * SIDE + x), 60) as u8;
            let picture = RgbImage::from_fn(SIDE, SIDE, |x, y| {
                let strong = 190 + noise(x, y);
                Rgb(if is_red(x, y) { [strong, 30, 20] } else { [20, 30, strong] })
            });
            let mask = GrayImage::from_fn(SIDE, SIDE, |x, y| {
                Luma([if x < 8 && y < 8 { 255 } else { u8::from(is_red(x, y)) }])
            });
            picture.save(project.path(&format!("data/{split}/images/{number:02}.png"))).unwrap();
            mask.save(project.path(&format!("data/{split}/masks/{number:02}.png"))).unwrap();
        }
    }
    project.write("masks.yaml", RECIPE);
    project
}

#[test]
fn tokens_learn_masks_that_are_predicted_exported_and_measured() {
    let project = project();
    let ran = project.run(&["run", "masks.yaml", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let record = ran.json();
    let metrics = &record["metrics"];
    for metric in ["test/mean_iou", "test/accuracy", "test/pixel_accuracy", "test/pixel_mean_iou"] {
        assert!(metrics[metric].as_f64().is_some_and(|value| value > 0.7), "{metric}: {metrics}");
    }
    assert_eq!(record["main_metric"], "test/mean_iou");

    let pictures = ["data/test/images/00.png", "data/test/images/01.png"];
    let words = |run: &str, folder: &str| {
        let mut all = vec!["predict".to_string(), run.into(), "--masks".into(), folder.into(), "--json".into()];
        all.extend(pictures.map(String::from));
        all
    };
    let predict = |run: &str, folder: &str| {
        let words = words(run, folder);
        project.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let run = record["path"].as_str().unwrap();
    let predicted = predict(run, "out");
    assert_eq!(predicted.code, Some(0), "{predicted:?}");
    let shares = predicted.json()["predictions"][0]["values"].clone();
    assert_eq!(shares.as_array().map(Vec::len), Some(2), "{shares}");
    let grey = |path: &str| image::open(project.path(path)).unwrap().into_luma8();
    let (mask, truth) = (grey("out/00.png"), grey("data/test/masks/00.png"));
    let counted = mask.pixels().zip(truth.pixels()).filter(|(_, truth)| truth.0[0] != 255);
    let right = counted.filter(|(mask, truth)| mask == truth).count();
    assert!(right > 700, "{right} of 960 pixels");

    let exported = project.run(&["export", run, "--json"]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let file = project.path(run).join("model.onnx");
    let again = predict(file.to_str().unwrap(), "again");
    assert_eq!(again.code, Some(0), "{again:?}");
    let same = mask.pixels().zip(grey("again/00.png").pixels()).filter(|(a, b)| a == b).count();
    assert!(same >= 1020, "{same} of 1024 pixels");

    let eval = project.run(&["eval", run, "--json"]);
    assert_eq!(eval.code, Some(0), "{eval:?}");
    let of_run = eval.json()["metrics"]["pixel_mean_iou"].as_f64().unwrap();
    assert!((of_run - metrics["test/pixel_mean_iou"].as_f64().unwrap()).abs() < 1e-9, "{eval:?}");
    let eval = project.run(&["eval", file.to_str().unwrap(), "--data-of", "masks.yaml", "--json"]);
    assert_eq!(eval.code, Some(0), "{eval:?}");
    let of_file = eval.json()["metrics"]["pixel_mean_iou"].as_f64().unwrap();
    assert!((of_file - of_run).abs() < 0.02, "{of_file} and {of_run}");
}

#[test]
fn postprocessing_is_a_key_of_the_recipe() {
    let project = project();
    let plan = project.run(&["plan", "masks.yaml", "--json"]);
    let argmax = serde_json::json!({"kind": "argmax", "size": [32, 32], "mode": "bilinear"});
    assert_eq!(plan.json()["plan"]["model"]["postprocess"], argmax, "{plan:?}");
    let ran = project.run(&[
        "run",
        "masks.yaml",
        "++model.postprocess={kind: argmax, size: [16, 64], mode: nearest}",
        "--json",
    ]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let record = ran.json();
    assert!(record["metrics"]["test/pixel_accuracy"].as_f64().is_some_and(|value| value > 0.7), "{ran:?}");
    let run = record["path"].as_str().unwrap();
    let wide = RgbImage::from_fn(64, 48, |x, _| Rgb(if x < 32 { [20, 30, 220] } else { [220, 30, 20] }));
    wide.save(project.path("wide.png")).unwrap();
    for (size, expected) in [("model", (64, 16)), ("original", (64, 48))] {
        let predicted = project.run(&["predict", run, "wide.png", "--masks", size, "--size", size]);
        assert_eq!(predicted.code, Some(0), "{predicted:?}");
        let mask = image::open(project.path(&format!("{size}/wide.png"))).unwrap().into_luma8();
        assert_eq!((mask.width(), mask.height()), expected);
        let of = |x: u32| mask.get_pixel(x, mask.height() / 2).0[0];
        assert_eq!((of(2), of(mask.width() - 3)), (0, 1), "{size}");
    }
    let exported = project.run(&["export", run, "--json"]);
    assert_eq!(exported.code, Some(0), "{exported:?}");
    assert!(exported.stdout.contains("`classes` [batch, 16, 64]"), "{exported:?}");
    let model = onnx::read(&project.path(run).join("model.onnx")).unwrap();
    let said = model.metadata_props.iter().find(|entry| entry.key == "caft.postprocess").unwrap();
    assert_eq!(said.value, r#"{"kind":"argmax","size":[16,64],"mode":"nearest"}"#);
    let refused = project.run(&["export", run, "--activation", "softmax"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("the file gives `classes`"), "{refused:?}");
}

#[test]
fn places_of_maps_learn_masks_and_trials_share_them() {
    let project = project();
    let maps = ["model.backbone.onnx=backbone.onnx", "model.backbone.outputs=[/layer2/Relu_output_0]"];
    let ran = project.run(&[&["run", "masks.yaml", "--json"], &maps[..]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let iou = ran.json()["metrics"]["test/pixel_mean_iou"].as_f64().unwrap();
    assert!(iou > 0.7, "{ran:?}");
    let run = ran.json()["path"].as_str().unwrap().to_string();
    let exported = project.run(&["export", &run]);
    assert_eq!(exported.code, Some(0), "{exported:?}");

    let sweep = ["++sweep={method: grid, kfold: 3, parameters: {train.optimizer.lr: {values: [1.0e-4, 2.0e-2]}}}"];
    let swept = project.run(&[&["sweep", "masks.yaml", "train.epochs=4"], &maps[..], &sweep].concat());
    assert_eq!(swept.code, Some(0), "{swept:?}");
    assert!(swept.stdout.contains("VALID/MEAN_IOU"), "{swept:?}");
}

#[test]
fn masks_of_colours_train_with_views_of_pictures_and_masks_alike() {
    let project = project();
    for (split, count) in [("train", 24), ("test", 8)] {
        for number in 0..count {
            let path = project.path(&format!("data/{split}/masks/{number:02}.png"));
            let grey = image::open(&path).unwrap().into_luma8();
            let color = |class: u8| [[0, 0, 128], [128, 0, 0]].get(usize::from(class)).copied().unwrap_or([9; 3]);
            RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb(color(grey.get_pixel(x, y).0[0]))).save(&path).unwrap();
        }
    }
    let refused = project.run(&["run", "masks.yaml"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("say which colour is which class as `data.colors"), "{refused:?}");
    let colors = "++data.colors={blue: [0, 0, 128], red: [128, 0, 0], void: [9, 9, 9]}";
    // Were masks not flipped with their pictures, two of three views would teach nothing.
    let views =
        "++data.augment={views: 3, ops: [{kind: horizontal_flip, p: 1.0}, {kind: color_jitter, brightness: 0.1}]}";
    let ran = project.run(&["run", "masks.yaml", colors, views, "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let record = ran.json();
    assert!(record["metrics"]["test/pixel_mean_iou"].as_f64().is_some_and(|value| value > 0.7), "{ran:?}");
    let page = std::fs::read_to_string(project.path(record["path"].as_str().unwrap()).join("report.html")).unwrap();
    assert!(page.contains("\"iou\":") && page.contains("% of pixels right"), "the classes and the worst pictures");
    let unknown = project.run(&["run", "masks.yaml", "++data.colors={blue: [0, 0, 128], red: [128, 0, 0]}"]);
    assert!(unknown.stderr.contains("[9, 9, 9], which is of no class"), "{unknown:?}");
}

#[test]
fn masks_are_packed_with_what_is_stored_of_their_pictures() {
    let project = project();
    let views = "++data.augment={views: 2, ops: [{kind: horizontal_flip, p: 1.0}]}";
    let sweep = |what: &str| {
        let words = ["sweep", what, "train.optimizer.lr=1e-3,1e-2", "train.epochs=10", "++sweep.kfold=2", "--json"];
        let swept = project.run(&words);
        assert_eq!(swept.code, Some(0), "{swept:?}");
        let ranking = swept.json()["ranking"].as_array().unwrap().clone();
        let scores = ranking.iter().map(|choice| (choice["mean"].as_f64().unwrap(), choice["loss"].as_f64().unwrap()));
        scores.collect::<Vec<_>>()
    };
    for words in [&[][..], &[views]] {
        let ran = project.run(&[&["run", "masks.yaml", "train.epochs=10", "--json"], words].concat()).json();
        let packed = project.run(&["pack", ran["path"].as_str().unwrap(), "-o", "m.caft-run", "--with-activations"]);
        assert_eq!(packed.code, Some(0), "{packed:?}");
        std::fs::rename(project.path("data"), project.path("away")).unwrap();
        let again = project.run(&["run", "m.caft-run", "--fresh", "--json"]);
        assert_eq!(again.json()["metrics"], ran["metrics"], "the same bit for bit: {again:?}");
        if words.is_empty() {
            let of_pack = sweep("m.caft-run");
            std::fs::rename(project.path("away"), project.path("data")).unwrap();
            assert_eq!(sweep("masks.yaml"), of_pack, "the trials of a pack are those of the run");
            std::fs::rename(project.path("data"), project.path("away")).unwrap();
        }
        let measured = project.run(&["eval", "m.caft-run", "--json"]).json();
        assert_eq!(measured["metrics"]["pixel_mean_iou"], ran["metrics"]["test/pixel_mean_iou"], "{measured}");
        std::fs::rename(project.path("away"), project.path("data")).unwrap();
    }
}

#[test]
fn what_masks_cannot_be_is_told() {
    let project = project();
    let fails = |words: &[&str], expected: &str| {
        let mut all = vec!["run", "masks.yaml"];
        all.extend(words);
        let ran = project.run(&all);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(expected), "{expected}: {ran:?}");
    };
    fails(&["data.void=1"], "is the number of a class");
    fails(&["data.void=254"], "has the value 255, and there are 2 classes");
    fails(&["++model.backbone.mode=full"], "masks train a head at each place of a frozen backbone");
    fails(&["++cache.store=none"], "masks are trained from what is stored");
    fails(&["++model.postprocess={kind: argmax, size: [0, 8]}"], "postprocess.size");
    fails(&["++model.head.kind=embedding"], "does not give a logit per class");
    fails(
        &["model.backbone.onnx=backbone.onnx", "model.backbone.outputs=[/Flatten_output_0]"],
        "need outputs with places",
    );
    let classes = project.run(&["plan", "recipe.yaml", "++model.postprocess={kind: argmax}"]);
    assert_eq!(classes.code, Some(2), "{classes:?}");
    assert!(classes.stderr.contains("`argmax` is for rows labelled with masks"), "{classes:?}");
    GrayImage::new(8, 8).save(project.path("data/train/masks/04.png")).unwrap();
    fails(&[], "is of (8, 8) pixels, and its picture of (32, 32)");
    std::fs::remove_file(project.path("data/train/masks/03.png")).unwrap();
    fails(&[], "03.png` has no mask in");
}
